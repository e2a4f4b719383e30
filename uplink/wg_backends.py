"""How a WireGuard interface comes into being on this machine: kernel module, wireguard-go, or python-wireguard.

Programs are called with argument lists, never through a shell, and secrets reach them on standard input alone, so
that no process list shows a key. Everything that touches the system goes through one injectable `Run`.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

PROGRAM_TIMEOUT_S = 10.0
CONTROL_SOCKETS = Path("/var/run/wireguard")


class TunnelError(RuntimeError):
    """The tunnel could not be brought up, changed or read; the message says why and what to check."""


class ProgramError(TunnelError):
    """A program ended with an error. `reason` is what it said, without the arguments."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class Run(Protocol):
    """Runs a program and returns its standard output; raises ProgramError when it fails."""

    def __call__(self, argv: Sequence[str], *, stdin: str | None = None) -> str: ...


def system_run(argv: Sequence[str], *, stdin: str | None = None) -> str:
    """Run `argv` without a shell, for at most ten seconds. Raises ProgramError with what the program said."""
    shown = " ".join(argv)
    try:
        done = subprocess.run(
            list(argv),
            input=stdin or "",
            capture_output=True,
            text=True,
            timeout=PROGRAM_TIMEOUT_S,
            check=False,
            env={"PATH": _search_path(), "LC_ALL": "C"},  # messages are matched below
            start_new_session=True,  # a Ctrl-C meant for us must not end wireguard-go
        )
    except FileNotFoundError:
        package = {"ip": "iproute2", "wg": "wireguard-tools"}.get(argv[0], argv[0])
        raise ProgramError(f"{argv[0]} is not installed (Debian: apt install {package})", "not installed") from None
    except PermissionError as error:
        raise ProgramError(f"{shown}: {error.strerror}", str(error.strerror)) from None
    except subprocess.TimeoutExpired:
        raise ProgramError(f"{shown}: no answer within {PROGRAM_TIMEOUT_S:.0f} s", "time-out") from None
    if done.returncode:
        reason = (done.stderr or done.stdout).strip().splitlines()
        words = reason[-1] if reason else f"exit code {done.returncode}"
        if "not permitted" in words.lower() or "permission denied" in words.lower():
            words += " (tunnels need root or CAP_NET_ADMIN)"
        raise ProgramError(f"{shown}: {words}", words)
    return done.stdout


def _search_path() -> str:
    """PATH with the folders of the system programs, which a user's login or a unit may leave out."""
    return os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])


class Backend(Protocol):
    """Creates the bare interface; keys, addresses and peers are set by `Tunnel` in the same way for all of them."""

    name: str

    def unavailable(self) -> str | None:
        """Why this machine cannot use the backend, or None when it may work."""

    def create(self, interface: str) -> None:
        """Make the interface. Raises TunnelError and leaves nothing behind when that fails."""


def control_socket(interface: str) -> Path:
    """The control socket of a userspace interface. Not separated by network namespaces."""
    return CONTROL_SOCKETS / f"{interface}.sock"


def socket_answers(path: Path) -> bool:
    """Whether a process listens on the unix socket `path`; a killed wireguard-go leaves a dead one."""
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True


def link_exists(run: Run, interface: str) -> bool:
    """Whether this network namespace has an interface called so."""
    try:
        run(["ip", "-j", "link", "show", "dev", interface])
    except ProgramError as error:
        if "does not exist" in error.reason or "Cannot find device" in error.reason:
            return False
        raise
    return True


class KernelBackend:
    """The kernel's own WireGuard."""

    name = "kernel"

    def __init__(self, run: Run = system_run) -> None:
        self._run = run

    def unavailable(self) -> str | None:
        return None  # only trying tells: the module may be built in, loadable, or absent

    def create(self, interface: str) -> None:
        self._run(["ip", "link", "add", "dev", interface, "type", "wireguard"])


class UserspaceBackend:
    """`wireguard-go`: a process of its own that outlives us, so that our restart does not drop the tunnel.

    It makes the interface, goes into the background, and ends by itself when the interface is deleted. Should it
    die, the interface goes with it; `Tunnel.tick` then brings both back.
    """

    name = "userspace"

    def __init__(self, run: Run = system_run, *, program: str = "wireguard-go") -> None:
        self._run = run
        self._program = program

    def unavailable(self) -> str | None:
        if shutil.which(self._program, path=_search_path()) is None:
            return f"{self._program} is not installed (Debian: apt install {self._program})"
        if not Path("/dev/net/tun").exists():
            return "/dev/net/tun is missing (modprobe tun; in a container: --device /dev/net/tun)"
        return None

    def create(self, interface: str) -> None:
        path = control_socket(interface)
        if path.exists():
            if socket_answers(path):
                raise TunnelError(
                    f"{path} is in use: another {self._program} runs {interface}, perhaps in another network "
                    "namespace; choose another interface name"
                )
            path.unlink(missing_ok=True)  # left by a process that was killed; it would confuse `wg`
        self._run([self._program, interface])


class PythonWireguardBackend:
    """The `python-wireguard` extra, for x86-64 with the kernel module; chosen by name only.

    Its library ends the whole process on failure and prints instead of raising: it runs in a child process, which
    makes the bare interface, and whether that worked is read from the system.
    """

    name = "python-wireguard"

    def __init__(self, run: Run = system_run) -> None:
        self._run = run

    def unavailable(self) -> str | None:
        if importlib.util.find_spec("python_wireguard") is None:
            return "python-wireguard is not installed (pip install 'headroom[python-wireguard]')"
        return None

    def create(self, interface: str) -> None:
        reason = "it said nothing"
        try:
            reason = self._run([sys.executable, "-m", "uplink.wg_python_child", interface]).strip() or reason
        except ProgramError as error:
            reason = error.reason
        if not link_exists(self._run, interface):
            raise TunnelError(f"python-wireguard made no interface {interface}: {reason}")


def default_backends(run: Run = system_run, name: str | None = None) -> list[Backend]:
    """The backends to try, best first; or the one called `name`. Raises TunnelError for an unknown name."""
    known: list[Backend] = [KernelBackend(run), UserspaceBackend(run)]
    if name is None:
        return known
    known.append(PythonWireguardBackend(run))
    chosen = [backend for backend in known if backend.name == name]
    if not chosen:
        raise TunnelError(f"backend {name!r} is unknown; use one of {', '.join(b.name for b in known)}")
    return chosen
