"""The privacy lock: frames stay in RAM because the kernel holds the process to it, not because the code means well.

    reports = lock(Confinement(write=(state,), connect=(8400,)))
    if strict and (why := refusal(reports)):
        ...

``lock`` is called once, on the main thread, before a camera is opened. Each lock reports whether it holds; none of
them fails the program by itself. What runs unlocked says so.
"""

from __future__ import annotations

from counter.privacy.frames import in_use
from counter.privacy.landlock import Confinement
from counter.privacy.locks import inspect, lock
from counter.privacy.report import LockError, LockReport, refusal

__all__ = ["Confinement", "LockError", "LockReport", "in_use", "inspect", "lock", "refusal"]
