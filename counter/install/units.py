"""The files that an installation writes, made from templates. Pure: paths and names in, texts out."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

SENSOR_UNIT = "headroom-sensor.service"
TUNNEL_UNIT = "headroom-tunnel.service"
UNIT_FOLDER = Path("/etc/systemd/system")
SYSUSERS_FILE = Path("/etc/sysusers.d/headroom.conf")
DEFAULT_STATE = Path("/var/lib/headroom")
DEFAULT_USER = "headroom"
# What systemd would split, expand or unquote is not worth escaping in a path that an installer chooses.
_PLAIN_PATH = re.compile(r"/[A-Za-z0-9/._+-]*")
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,30}")


class UnitError(ValueError):
    """A path or name that a unit cannot hold; the text names it."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where things lie on this board.

    Attributes:
        program: the ``headroom`` program, absolute.
        state: the state folder.
        user: whom the sensor runs as; made when missing.
    """

    program: Path
    state: Path = DEFAULT_STATE
    user: str = DEFAULT_USER

    def __post_init__(self) -> None:
        for name, path in (("program", self.program), ("state", self.state)):
            if not _PLAIN_PATH.fullmatch(str(path)) or ".." in path.parts:
                raise UnitError(f"{name} {str(path)!r}: a unit needs an absolute path of plain letters")
        if not _USER.fullmatch(self.user) or self.user == "root":
            raise UnitError(f"user {self.user!r}: expected a system user's name, such as {DEFAULT_USER}; never root")
        for hidden in ("/home", "/root", "/run/user", "/tmp"):  # noqa: S108 - the sandbox hides these, nothing is made
            for name, path in (("program", self.program), ("state", self.state)):
                if path.is_relative_to(hidden):
                    raise UnitError(
                        f"{name} {path}: the unit's sandbox hides {hidden}; install into /opt/headroom instead "
                        "(python3 -m venv /opt/headroom)"
                    )


def unit_text(name: str, place: Place) -> str:
    """The text of a unit.

    Args:
        name: `SENSOR_UNIT` or `TUNNEL_UNIT`.
    """
    text = (resources.files("counter.install") / name).read_text("utf-8")
    under_lib = place.state.parent == Path("/var/lib")
    directory = f"StateDirectory={place.state.name}\nStateDirectoryMode=0700" if under_lib else ""
    values = {
        "@PROGRAM@": str(place.program),
        "@STATE@": str(place.state),
        "@USER@": place.user,
        "@STATE_DIRECTORY@": directory,
    }
    for mark, value in values.items():
        text = text.replace(mark, value)
    return text


def sysusers_text(place: Place) -> str:
    """The sensor's user for systemd-sysusers: no password, no shell, no home to log in to."""
    return f'u {place.user} - "Headroom people counter" {place.state}\nm {place.user} video\n'


def files(place: Place) -> dict[Path, str]:
    """Every file and its text."""
    return {
        SYSUSERS_FILE: sysusers_text(place),
        UNIT_FOLDER / SENSOR_UNIT: unit_text(SENSOR_UNIT, place),
        UNIT_FOLDER / TUNNEL_UNIT: unit_text(TUNNEL_UNIT, place),
    }
