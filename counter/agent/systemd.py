"""Speaking to systemd without a library: notifications (sd_notify(3)) and priorities of log lines (sd-daemon(3))."""

from __future__ import annotations

import logging
import os
import socket
import sys


def notify(text: str) -> bool:
    """Send ``READY=1``, ``WATCHDOG=1``, ``STATUS=...``; False where nobody listens. Never raises."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return False
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.connect("\0" + address[1:] if address[0] == "@" else address)
            sock.sendall(text.encode())
    except OSError:
        return False
    return True


def watchdog_seconds() -> float | None:
    """How long systemd waits for ``WATCHDOG=1`` of this process; None when it does not wait."""
    try:
        usec, pid = int(os.environ.get("WATCHDOG_USEC", "")), os.environ.get("WATCHDOG_PID")
    except ValueError:
        return None
    return usec / 1e6 if usec > 0 and pid in (None, str(os.getpid())) else None


class JournalFormatter(logging.Formatter):
    """Lines for the journal: its priority in front, no time (the journal has one), one record one line."""

    def format(self, record: logging.LogRecord) -> str:
        level = 3 if record.levelno >= logging.ERROR else 4 if record.levelno >= logging.WARNING else 6
        text = super().format(record)
        return "\n".join(f"<{level}>{line}" for line in text.splitlines())


def set_up_logging(*, verbose: bool = False) -> None:
    """Log to stderr, in the journal's form where stderr goes to the journal."""
    handler = logging.StreamHandler(sys.stderr)
    if os.environ.get("JOURNAL_STREAM"):
        handler.setFormatter(JournalFormatter("%(message)s"))
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S%z"))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("counter").setLevel(logging.DEBUG if verbose else logging.INFO)
    logging.getLogger("urllib3").setLevel(logging.WARNING)
