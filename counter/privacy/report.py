"""What a lock says of itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class LockReport:
    """One lock: whether it holds at this moment, and why or why not, for people.

    Attributes:
        required: whether ``--strict`` insists on it. Locks that only recent kernels have are reported, not insisted on.
    """

    name: str
    holds: bool
    why: str
    required: bool = True

    def as_json(self) -> dict[str, object]:
        """Plain values for state files and ``--json``."""
        return asdict(self)


class LockError(Exception):
    """The plan of the locks cannot be used. The text names the value and what to do."""


def refusal(reports: Sequence[LockReport]) -> str | None:
    """Why a strict sensor must not run, one lock a line; None when every required lock holds."""
    broken = [f"{report.name}: {report.why}" for report in reports if report.required and not report.holds]
    return "\n".join(broken) if broken else None
