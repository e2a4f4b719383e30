"""The container files of the service are documentation that must not lie: syntax, paths, options."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from analytics.cli.serve import serve
from analytics.settings import load_settings
from analytics.store.mongodb.connection import is_loopback

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
# Of the compose specification, what this file uses: a misspelt key would be refused by `docker compose`.
SERVICE_KEYS = {
    *("image", "build", "restart", "network_mode", "depends_on", "environment", "command", "volumes", "read_only"),
    *("tmpfs", "cap_drop", "cap_add", "security_opt", "mem_limit", "pids_limit", "ports", "healthcheck"),
}
INSTRUCTIONS = {
    *("FROM", "WORKDIR", "RUN", "COPY", "ENV", "USER", "VOLUME"),
    *("HEALTHCHECK", "ENTRYPOINT", "CMD", "EXPOSE", "ARG", "LABEL"),
}


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    document = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    assert isinstance(document, dict)
    return document


@pytest.fixture(scope="module")
def dockerfile() -> list[tuple[str, str]]:
    text = re.sub(r"^\s*#.*\n", "", (DEPLOY / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in lines]


def test_dockerfile_has_only_instructions(dockerfile: list[tuple[str, str]]) -> None:
    assert {name for name, _ in dockerfile} <= INSTRUCTIONS
    assert dockerfile[0][0] == "FROM"
    assert dict(dockerfile)["USER"] == "headroom", "the last word on the user is not root"
    for name, value in dockerfile:
        if name in ("ENTRYPOINT", "CMD") or (name == "HEALTHCHECK" and "CMD [" in value):
            json.loads(value[value.index("[") :])


def test_what_the_dockerfile_copies_is_there(dockerfile: list[tuple[str, str]]) -> None:
    for name, value in dockerfile:
        if name == "COPY" and "--from" not in value:
            for source in shlex.split(value)[:-1]:
                assert (ROOT / source).exists(), source
    copied = " ".join(value for name, value in dockerfile if name == "COPY")
    project = (ROOT / "pyproject.toml").read_text()
    packages = re.search(r"only-include = (\[.*?\])", project)
    assert packages is not None
    for package in json.loads(packages[1]):
        assert package in copied, f"{package} is part of the wheel"


def test_python_of_the_image_is_one_of_ours(dockerfile: list[tuple[str, str]]) -> None:
    stages = {value.split()[0] for name, value in dockerfile if name == "FROM"}
    assert len(stages) == 1, "built and run with the same Python"
    version = re.search(r"python:(\d+\.\d+)-", stages.pop())
    assert version is not None
    assert f"Python :: {version[1]}" in (ROOT / "pyproject.toml").read_text()


def test_compose_keys(compose: dict[str, Any]) -> None:
    assert set(compose) == {"name", "services", "volumes"}
    for name, service in compose["services"].items():
        assert set(service) <= SERVICE_KEYS, name
        for volume in service.get("volumes", []):
            assert volume.split(":")[0] in compose["volumes"]
        for other in service.get("depends_on", {}):
            assert other in compose["services"]
            assert "healthcheck" in compose["services"][other]
        mode = service.get("network_mode", "")
        assert not mode or mode.removeprefix("service:") in compose["services"]
        assert not (mode and "ports" in service), "compose refuses ports where the network is another's"
    build = compose["services"]["headroom"]["build"]
    assert (DEPLOY / build["context"] / build["dockerfile"]).is_file()


def test_nothing_but_the_proxy_is_open(compose: dict[str, Any]) -> None:
    assert [name for name, service in compose["services"].items() if "ports" in service] == ["proxy"]
    for service in compose["services"].values():
        assert "no-new-privileges:true" in service["security_opt"]
        assert not service.get("privileged")


def test_the_command_is_one_of_ours(compose: dict[str, Any], dockerfile: list[tuple[str, str]], tmp_path: Path) -> None:
    """`headroom serve` takes the options, and its settings take the addresses: no TLS is needed on loopback alone."""
    entry = json.loads(dict(dockerfile)["ENTRYPOINT"])
    assert entry == ["headroom", "serve"]
    service = compose["services"]["headroom"]
    filled = [re.sub(r"\$\{(\w+):\?[^}]*\}", "rooms.example.org", part) for part in service["command"]]
    given = serve.make_context("serve", [*filled, "--data", str(tmp_path)]).params
    settings = load_settings(tmp_path, {"public_url": given["public_url"]})
    assert is_loopback(settings.host)
    assert settings.https
    assert f"127.0.0.1:{settings.port}" in compose["services"]["proxy"]["command"]
    store = service["environment"]["HEADROOM_STORE"]
    assert "@127.0.0.1:27017/" in store
    assert "127.0.0.1" in compose["services"]["mongodb"]["command"]


def test_no_secret_is_written_down(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        for name, value in service.get("environment", {}).items():
            if "PASSWORD" in name or "STORE" in name:
                assert "${HEADROOM_DB_PASSWORD:?" in value


def test_commands_in_the_guides_exist() -> None:
    """Every `headroom ...` line of the guides names a command and options that are there."""
    from headroom import cli

    for guide in (ROOT / "docs" / "sensor.md", DEPLOY / "wireguard.md"):
        text = re.sub(r"\\\n\s*", " ", guide.read_text())
        found = re.findall(r"^ {4}(?:sudo (?:\w+=\S+ )*)?(?:\S*/)?headroom (.+)$", text, re.MULTILINE)
        assert found, guide
        for line in found:
            words = shlex.split(line.split("   ")[0].split(" #")[0].split(" |")[0])
            command, path = cli, []
            while hasattr(command, "get_command") and words and not words[0].startswith("-"):
                path.append(words.pop(0))
                command = command.get_command(None, path[-1])  # type: ignore[arg-type]
                assert command is not None, f"{guide.name}: headroom {' '.join(path)}"
            known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
            used = {word.split("=")[0] for word in words if word.startswith("--")}
            assert used <= known, f"{guide.name}: headroom {line}"
