"""The records around the ends of the measuring hours: which there are, what they say, whatever the camera does then."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from counter.agent.schedule import Hours
from counter.agent.supervisor import work
from counter.agent.worker import CameraState
from counter.sources import SourceError, TimedFrame
from tests.counter.agent_parts import MONDAY, Bench, FakeFeed
from uplink.messages import CountRecord

OPENS, CLOSES, ENDS = 60.0, 180.0, 330.0
When = Callable[[float], bool]


class Scripted(Bench):
    """A bench whose camera is away, dark, refused or counted by a broken network at moments (seconds from noon)."""

    def __init__(self, hours: Hours, interval: int, kind: str, when: When) -> None:
        super().__init__(hours=hours, interval=interval)
        self.kind, self.when = kind, when
        self.reads: list[float] = []
        self.detector.detect = self._detect  # type: ignore[method-assign]
        self.found = type(self.detector)()

    def faulty(self, kind: str) -> bool:
        return self.kind == kind and self.when(self.clock.wall - MONDAY)

    def open(self, camera: object, clock: object) -> FakeFeed:
        if self.faulty("refused"):
            raise SourceError("source", "fake", "the driver is gone")
        feed = super().open(camera, clock)  # type: ignore[arg-type]
        read = feed.read

        def scripted(timeout: float) -> TimedFrame | None:
            feed.alive = not self.faulty("away")
            feed.change = np.zeros_like if self.faulty("dark") else lambda frame: frame
            self.reads.append(self.clock.wall - MONDAY)
            return read(timeout)

        feed.read = scripted  # type: ignore[method-assign]
        return feed

    def _detect(self, frame: Any) -> Any:
        if self.faulty("broken"):
            raise RuntimeError("the network broke")
        return self.found.detect(frame)

    def live(self, seconds: float) -> list[tuple[float, tuple[str, ...], float]]:
        """Live as the camera's thread does; what the records say."""
        end, clock, stop = self.clock.mono + seconds, self.clock, self.stop

        class Until:
            def is_set(self) -> bool:
                return stop.is_set() or clock.mono >= end

        self.worker._stop = Until()  # type: ignore[assignment]
        work(self.worker, clock, Until())  # type: ignore[arg-type]
        return [said(record) for record in self.records]


def said(record: CountRecord) -> tuple[float, tuple[str, ...], float]:
    return record.start.timestamp() - MONDAY, tuple(sorted(record.health)), record.coverage


def never(_: float) -> bool:
    return False


def always(_: float) -> bool:
    return True


def since(moment: float) -> When:
    return lambda t: t >= moment


def before(moment: float) -> When:
    return lambda t: t < moment


OK, GONE, DARK = ("ok",), ("no_signal",), ("dark",)

# Open from 12:01 to 12:03, records of a minute: so each has a first and a last interval, and nothing else.
# Kind of fault, when, what the two records say: health and coverage.
TABLE: list[tuple[str, When, tuple[tuple[str, ...], float], tuple[tuple[str, ...], float]]] = [
    ("well", never, (OK, 1.0), (OK, 1.0)),
    ("away", always, (GONE, 0.0), (GONE, 0.0)),
    ("away", before(OPENS), (OK, 1.0), (OK, 1.0)),
    ("away", before(90.0), (OK, 0.5), (OK, 1.0)),
    ("away", before(130.0), (GONE, 0.0), (OK, 0.83)),
    ("away", since(110.0), (OK, 0.83), (GONE, 0.0)),
    ("away", since(150.0), (OK, 1.0), (OK, 0.5)),
    ("away", since(CLOSES), (OK, 1.0), (OK, 1.0)),
    ("refused", always, (GONE, 0.0), (GONE, 0.0)),
    ("refused", before(90.0), (OK, 0.5), (OK, 1.0)),
    ("broken", always, (GONE, 0.0), (GONE, 0.0)),
    ("broken", since(90.0), (OK, 0.5), (GONE, 0.0)),
    ("broken", since(150.0), (OK, 1.0), (OK, 0.5)),
    ("dark", always, (DARK, 0.0), (DARK, 0.0)),
    ("dark", since(100.0), (DARK, 0.0), (DARK, 0.0)),
    ("dark", since(115.0), (OK, 1.0), (DARK, 0.0)),
    ("dark", before(80.0), (DARK, 0.0), (OK, 1.0)),
]


@pytest.mark.parametrize(("kind", "when", "first", "last"), TABLE)
def test_first_and_last_interval(
    kind: str, when: When, first: tuple[tuple[str, ...], float], last: tuple[tuple[str, ...], float]
) -> None:
    bench = Scripted(Hours(mon=("12:01-12:03",)), 60, kind, when)  # type: ignore[arg-type]
    found = bench.live(ENDS)
    assert [(start, health) for start, health, _ in found] == [(OPENS, first[0]), (OPENS + 60.0, last[0])]
    slack = 0.12 if kind == "refused" or kind == "broken" else 0.05  # pauses between tries
    assert [coverage for *_, coverage in found] == pytest.approx([first[1], last[1]], abs=slack)
    assert bench.worker.state is CameraState.CLOSED
    assert all(feed.closed for feed in bench.feeds)
    assert all(OPENS <= moment <= CLOSES for moment in bench.reads)  # nobody reads a closed camera


@pytest.mark.parametrize(
    ("kind", "when", "expected"),
    [
        # Records of five minutes, open for two of them: one record, which speaks for those two.
        ("well", never, [(0.0, OK, 0.4)]),
        ("away", always, [(0.0, GONE, 0.0)]),
        ("broken", always, [(0.0, GONE, 0.0)]),
        ("away", since(120.0), [(0.0, OK, 0.2)]),
    ],
)
def test_an_interval_that_is_open_in_part(
    kind: str, when: When, expected: list[tuple[float, tuple[str, ...], float]]
) -> None:
    bench = Scripted(Hours(mon=("12:01-12:03",)), 300, kind, when)  # type: ignore[arg-type]
    found = bench.live(700.0)
    assert [x[:2] for x in found] == [x[:2] for x in expected]
    assert [x[2] for x in found] == pytest.approx([x[2] for x in expected], abs=0.03)


@pytest.mark.parametrize("kind", ["well", "away", "refused", "broken", "dark"])
@pytest.mark.parametrize("start", [0.0, 200.0], ids=["before", "after"])
def test_outside_the_hours_nothing_is_recorded_and_nothing_opened(kind: str, start: float) -> None:
    bench = Scripted(Hours(mon=("12:01-12:03",)), 10, kind, always)  # type: ignore[arg-type]
    bench.clock.sleep(start)
    assert bench.live(59.0) == []
    assert not bench.feeds
    assert bench.worker.health == frozenset()


@pytest.mark.parametrize("kind", ["away", "broken"])
def test_a_clock_set_out_of_the_hours_and_back_leaves_no_interval_twice_and_none_outside(kind: str) -> None:
    bench = Scripted(Hours(mon=("12:01-12:03",)), 10, kind, since(80.0))  # type: ignore[arg-type]
    bench.live(100.0)
    bench.clock.wall += 3600.0
    bench.live(30.0)
    assert bench.worker.state is CameraState.CLOSED
    bench.clock.wall -= 3600.0
    found = bench.live(200.0)
    starts = [start for start, *_ in found]
    assert sorted(set(starts)) == starts
    assert all(OPENS <= start < CLOSES for start in starts)
    assert starts[-1] == CLOSES - 10.0
