"""Who a sensor is: ``identity.toml`` (open) and ``sensor.key`` (secret), in the state folder. Enrolment writes both.

A further camera of the board has both in the state folder's subfolder of its sensor's name, beside its own spool; the
tunnel is the board's.

``identity.toml``::

    sensor_id = "hall-3"
    service_url = "http://10.77.0.1:8400"
    tunnel_address = "10.77.0.12"        # empty when counts do not go through a tunnel
    service_seal_key = "base64 of the service's X25519 public key"
    board = ""                           # a further camera: the sensor that holds its board and the tunnel

``sensor.key``: one line, the key's generation and the key in base64 (see `uplink.keys.SensorKey`).
"""

from __future__ import annotations

import ipaddress
import os
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from uplink.keyfiles import KeyFileError, decode_key, find_secret, write_atomic
from uplink.keys import SensorKey
from uplink.messages import SensorId

IDENTITY_FILE = "identity.toml"
SENSOR_KEY_FILE = "sensor.key"
TAKEN_FOLDERS = frozenset({"spool", "cache"})
"""Subfolders of a state folder that are no camera's: no further camera may have such a name."""
STATE_VARIABLE = "HEADROOM_STATE"


class IdentityError(Exception):
    """The sensor is not enrolled, or its identity cannot be used. The text names the file, field and what to do."""


class Identity(BaseModel):
    """What enrolment gave the sensor, apart from its secrets."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    sensor_id: SensorId
    service_url: str = Field(description="Where the service listens, http or https, without a path.")
    tunnel_address: str = Field("", description="The sensor's address inside the tunnel; empty without a tunnel.")
    service_seal_key: str = Field(description="The service's X25519 public key, base64: the spool is sealed to it.")
    board: SensorId | Literal[""] = Field("", description="Of a further camera: the sensor that holds its board.")

    @field_validator("service_url")
    @classmethod
    def _url(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("expected http://HOST[:PORT] or https://HOST[:PORT]")
        if parts.username or parts.password or parts.query or parts.fragment or parts.path not in ("", "/"):
            raise ValueError("expected scheme, host and port alone")
        if not re.fullmatch(r"[!#-\[\]-~]+", value):
            raise ValueError("holds a character that no address has")
        if parts.port == 0:  # reading it also refuses what is no port
            raise ValueError("port 0")
        return value.rstrip("/")

    @field_validator("tunnel_address")
    @classmethod
    def _address(cls, value: str) -> str:
        return str(ipaddress.ip_address(value)) if value else value

    @field_validator("service_seal_key")
    @classmethod
    def _seal_key(cls, value: str) -> str:
        try:
            decode_key(value, "service_seal_key")
        except KeyFileError as error:
            raise ValueError(str(error)) from None
        return value

    @property
    def seal_public_key(self) -> bytes:
        """The service's X25519 public key, 32 bytes."""
        return decode_key(self.service_seal_key, "service_seal_key")

    @classmethod
    def load(cls, state: Path) -> Self:
        """Read ``identity.toml`` in the state folder.

        Raises:
            IdentityError: not enrolled, or a field is wrong.
        """
        path = state / IDENTITY_FILE
        try:
            values = tomllib.loads(path.read_text("utf-8"))
        except FileNotFoundError:
            raise IdentityError(f"{path}: this sensor is not enrolled; run: headroom sensor enrol") from None
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise IdentityError(f"{path}: {error}") from None
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"])
            raise IdentityError(f"{path}: {field}: {first['msg']}; correct it or enrol again") from None

    def load_key(self, state: Path) -> SensorKey:
        """This sensor's own key, from systemd's credentials or its folder.

        The credential ``sensor.key`` is the board's; that of a further camera is named after it: ``hall-4.key``.

        Raises:
            IdentityError: missing, open to others, or not a key.
        """
        return load_sensor_key(state, self.sensor_id, f"{self.sensor_id}.key" if self.board else SENSOR_KEY_FILE)

    def save(self, state: Path) -> None:
        """Write ``identity.toml`` whole or not at all. Every value is free of quotes by its own check."""
        lines = [f'{name} = "{value}"' for name, value in self.model_dump().items()]
        write_atomic(state / IDENTITY_FILE, ("\n".join(lines) + "\n").encode(), mode=0o600)


def state_folder(override: str | Path | None = None) -> Path:
    """The state folder: `override`, else ``$HEADROOM_STATE``, else /var/lib/headroom (root) or the user's own."""
    chosen = override or os.environ.get(STATE_VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    if os.geteuid() == 0:
        return Path("/var/lib/headroom")
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "headroom"


@dataclass(frozen=True, slots=True)
class Enrolled:
    """One sensor of a board: who it is, and the folder that holds its identity, key and spool."""

    folder: Path
    identity: Identity


def enrolled(state: Path) -> list[Enrolled]:
    """All sensors of a state folder: that of the folder itself first, then those of its subfolders by name.

    Raises:
        IdentityError: an identity cannot be used.
    """
    found = [state] if (state / IDENTITY_FILE).exists() else []
    found += sorted(path.parent for path in state.glob(f"*/{IDENTITY_FILE}"))
    return [Enrolled(folder, Identity.load(folder)) for folder in found]


def load_sensor_key(state: Path, sensor_id: str, credential: str = SENSOR_KEY_FILE) -> SensorKey:
    """A sensor's own key, from systemd's credential of this name or from ``sensor.key`` in the folder.

    Raises:
        IdentityError: missing, open to others, or not a key.
    """
    try:
        return SensorKey.from_text(sensor_id, find_secret(SENSOR_KEY_FILE, state, credential))
    except KeyFileError as error:
        raise IdentityError(str(error)) from None


def save_sensor_key(state: Path, key: SensorKey) -> None:
    """Write ``sensor.key`` with mode 0600, whole or not at all."""
    write_atomic(state / SENSOR_KEY_FILE, key.to_text())
