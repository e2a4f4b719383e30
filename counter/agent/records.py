"""What happens to a record between the counter and the spool: faults of the view, hours, and what was said before."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from counter.counting import STEP_BACK_SECONDS
from uplink.messages import CountRecord, Health

VIEW_FAULTS = frozenset({Health.DARK, Health.BLOCKED, Health.MOVED, Health.NO_SIGNAL})
"""Faults under which a count says nothing about the room."""


class RecordDesk:
    """One sensor's records on their way out.

    * An interval with a fault of the view is marked with it, and its ``present`` is null and its coverage 0: what was
      counted before the fault was noticed must not be taken for true.
    * An interval is reported once, also over restarts: after one that had begun was reported at the end of a run, the
      rest of it is not reported again, and its crossings go into the next.
    * An interval wholly outside the measuring hours is not reported.

    Args:
        seconds: length of an interval.
        wanted: whether an interval (start, seconds) touches the measuring hours.
        deliver: gets each record.
        last: start of the last interval that an earlier run reported, seconds since 1970.
    """

    def __init__(
        self,
        seconds: int,
        wanted: Callable[[float, float], bool],
        deliver: Callable[[CountRecord], None],
        last: float | None = None,
    ) -> None:
        self.seconds = seconds
        self._wanted = wanted
        self._deliver = deliver
        self._faults: dict[float, set[Health]] = {}
        self._carried = [0, 0]
        self.last = last

    def mark(self, utc: float, faults: Iterable[Health]) -> None:
        """Say that the view has these faults at this moment (seconds since 1970)."""
        found = {fault for fault in faults if fault is not Health.OK}
        if found:
            start = utc // self.seconds * self.seconds
            self._faults.setdefault(start, set()).update(found)

    def take(self, record: CountRecord) -> None:
        """A record from the counter."""
        start = record.start.timestamp()
        faults = self._faults.pop(start, set())
        for old in [at for at in self._faults if at < start]:
            del self._faults[old]
        if not self._wanted(start, record.seconds):
            return
        if self.last is not None and 0 <= self.last - start <= STEP_BACK_SECONDS + self.seconds:
            self._carried[0] += record.entered
            self._carried[1] += record.left
            return
        record = self._with(record, faults)
        self._carried = [0, 0]
        self.last = start
        self._deliver(record)

    def _with(self, record: CountRecord, faults: set[Health]) -> CountRecord:
        if not faults and not any(self._carried):
            return record
        values = record.model_dump()
        values["entered"] += self._carried[0]
        values["left"] += self._carried[1]
        if faults:
            # "No signal" alone is what the counter says of an interval in which it was not given any picture.
            said = set(record.health) - {Health.OK, Health.NO_SIGNAL}
            values["health"] = frozenset(said | faults)
        if faults & VIEW_FAULTS:
            values |= {"present": None, "present_max": None, "coverage": 0.0}
        return CountRecord.model_validate(values)
