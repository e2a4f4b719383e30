"""The one program: every command explains itself, loads only what it needs, and names what is missing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner

import headroom

SERVICE_ONLY = ("fastapi", "uvicorn", "pymongo", "plotly", "sqlcipher3", "argon2", "jinja2", "pyarrow")
SENSOR_ONLY = ("cv2", "onnxruntime", "onnx")


def leaves(table: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, entry in table.items():
        if isinstance(entry, dict):
            yield from leaves(entry, (*path, name))
        elif name != "help":
            yield (*path, name)


@pytest.mark.parametrize("path", list(leaves(headroom.COMMANDS)), ids=" ".join)
def test_every_command_explains_itself(path: tuple[str, ...]) -> None:
    result = CliRunner().invoke(headroom.cli, [*path, "--help"], prog_name="headroom")
    assert result.exit_code == 0, result.output
    assert "Usage: headroom " + " ".join(path) in result.output


def test_every_group_and_command_is_listed_without_importing_it() -> None:
    code = (
        "import sys; from click.testing import CliRunner; import headroom; "
        "r = CliRunner().invoke(headroom.cli, ['--help']); assert r.exit_code == 0, r.output; "
        "print(sorted(m for m in sys.modules if m in ('numpy', 'cv2', 'fastapi', 'pydantic', 'requests', 'rich')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("arguments", [["nothing"], ["sensor", "nothing"], ["count"], ["count", "--nothing"]])
def test_wrong_usage_ends_with_2(arguments: list[str]) -> None:
    assert CliRunner().invoke(headroom.cli, arguments).exit_code == 2


def blocked(modules: tuple[str, ...], code: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process where importing ``modules`` fails as if they were not installed."""
    blocker = (
        "import sys\n"
        "class Blocker:\n"
        f"    names = {modules!r}\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in self.names:\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Blocker())\n"
    )
    return subprocess.run([sys.executable, "-c", blocker + code], capture_output=True, text=True, check=False)


def test_the_sensor_runs_without_the_services_packages() -> None:
    done = blocked(
        SERVICE_ONLY,
        "import counter, counter.cli.count, uplink.cli, headroom\n"
        "from click.testing import CliRunner\n"
        "for path in (['count'], ['models', 'list'], ['sensor', 'send'], ['sensor', 'run'], ['tunnel']):\n"
        "    r = CliRunner().invoke(headroom.cli, [*path, '--help']); assert r.exit_code == 0, (path, r.output)\n",
    )
    assert done.returncode == 0, done.stderr


def test_the_service_runs_without_the_sensors_packages() -> None:
    done = blocked(
        SENSOR_ONLY,
        "import analytics.web.app, headroom\n"
        "from click.testing import CliRunner\n"
        "for path in (['serve'], ['service'], ['timetable'], ['report'], ['export'], ['room']):\n"
        "    r = CliRunner().invoke(headroom.cli, [*path, '--help']); assert r.exit_code == 0, (path, r.output)\n",
    )
    assert done.returncode == 0, done.stderr


def test_a_missing_part_is_named_with_the_line_that_installs_it() -> None:
    done = blocked(SERVICE_ONLY, "import sys, headroom; sys.argv = ['headroom', 'serve']; headroom.main()")
    assert done.returncode == 1
    assert "pip install 'headroom[service]'" in done.stderr
