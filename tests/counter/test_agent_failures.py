"""A camera's thread that keeps failing: its intervals go on, it is said once, and tried again with growing pauses."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import pytest

from counter.agent.schedule import Hours
from counter.agent.supervisor import work
from counter.agent.worker import CameraState
from counter.sources import SourceError, TimedFrame
from tests.counter.agent_parts import MONDAY, Bench, FakeFeed
from uplink.messages import CountRecord, Health

NOBODY_LOOKED = (frozenset({Health.NO_SIGNAL}), None, 0.0)


def run(bench: Bench, seconds: float) -> list[CountRecord]:
    """The life of the camera's thread for so long, as the agent leads it; gives the records that came."""
    end, before = bench.clock.mono + seconds, len(bench.records)
    passes = bench.clock.sleep

    def sleep(seconds: float) -> None:
        passes(seconds)
        if bench.clock.mono >= end:
            bench.stop.set()

    bench.stop.clear()
    bench.clock.sleep = sleep  # type: ignore[method-assign]
    shut = bench.worker.shut
    bench.worker.shut = lambda: None if bench.stop.is_set() else shut()  # type: ignore[method-assign]
    try:
        work(bench.worker, bench.clock, bench.stop)
    finally:
        bench.clock.sleep, bench.worker.shut = passes, shut  # type: ignore[method-assign]
    return bench.records[before:]


def starts(records: list[CountRecord]) -> list[float]:
    return [record.start.timestamp() - MONDAY for record in records]


def said(record: CountRecord) -> tuple[frozenset[Health], int | None, float]:
    return record.health, record.present, record.coverage


def break_network(bench: Bench) -> Callable[[], None]:
    bench.detector.broken = True

    def mend() -> None:
        bench.detector.broken = False

    return mend


def break_opening(bench: Bench) -> Callable[[], None]:
    well = bench.worker._open_feed

    def fails(*_: object) -> FakeFeed:
        raise SourceError("source", "fake", "the driver is gone")

    bench.worker._open_feed = fails  # type: ignore[assignment]
    bench.worker._feed = None

    def mend() -> None:
        bench.worker._open_feed = well

    return mend


def break_reading(bench: Bench) -> Callable[[], None]:
    read = FakeFeed.read

    def fails(*_: object) -> TimedFrame | None:
        raise OSError("the decoder broke")

    FakeFeed.read = fails  # type: ignore[method-assign]

    def mend() -> None:
        FakeFeed.read = read  # type: ignore[method-assign]

    return mend


def break_thread(bench: Bench) -> Callable[[], None]:
    """What no `except Exception` would stop."""
    is_open = bench.worker._schedule.is_open

    def ends(_: float) -> bool:
        raise SystemExit("a library wanted to end the program")

    bench.worker._schedule.is_open = ends  # type: ignore[method-assign]

    def mend() -> None:
        bench.worker._schedule.is_open = is_open  # type: ignore[method-assign]

    return mend


@pytest.mark.parametrize("broken", [break_network, break_opening, break_reading, break_thread])
def test_a_thread_that_keeps_failing_gives_its_intervals_without_a_signal(
    broken: Callable[[Bench], Callable[[], None]], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    bench = Bench()
    run(bench, 25)
    bench.desk._wanted = lambda *_: True  # it asks the same schedule, which may be what is broken
    mend = broken(bench)
    try:
        run(bench, 600)
        assert bench.worker.state is CameraState.FAILED
        assert bench.worker.health == {Health.NO_SIGNAL}
        assert 9 <= bench.worker.failures <= 17  # 1 + 2 + 4 ... + 60 + 60 s
        assert bench.worker.snapshot()["failures"] == bench.worker.failures
    finally:
        mend()
    run(bench, 250)
    assert bench.worker.state is CameraState.COUNTING
    assert bench.worker.health == frozenset()
    assert starts(bench.records) == [10.0 * i for i in range(len(bench.records))]
    assert len(bench.records) >= 80
    assert all(said(record) == NOBODY_LOOKED for record in bench.records[4:62])
    assert any(0.0 < r.coverage < 1.0 for r in bench.records[2:4])  # what was seen before it broke
    assert {(r.health, r.present) for r in bench.records[-5:]} == {(frozenset({Health.OK}), 1)}
    assert sum("beginning anew" in line for line in caplog.messages) == 1
    assert sum("it counts again" in line for line in caplog.messages) == 1
    run(bench, 60)
    again = broken(bench)
    run(bench, 40)
    again()
    assert sum("beginning anew" in line for line in caplog.messages) == 2


def test_one_that_works_a_little_each_time_is_tried_less_and_less_often_too(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    bench = Bench()
    looks = 0

    def sometimes(*_: object) -> None:
        nonlocal looks
        looks += 1
        if looks % 5 == 0:
            raise RuntimeError("now and then")

    bench.worker._on_result = sometimes
    run(bench, 900)
    assert bench.worker.failures <= 25
    assert starts(bench.records) == [10.0 * i for i in range(len(bench.records))]
    assert len(bench.records) >= 89
    assert sum(said(record) == NOBODY_LOOKED for record in bench.records) >= 60
    assert sum("beginning anew" in line for line in caplog.messages) == 1
    assert "it counts again" not in caplog.text


def test_failing_outside_the_measuring_hours_is_no_record() -> None:
    bench = Bench(hours=Hours(mon=("12:00-12:02", "12:05-12:06")))  # type: ignore[arg-type]
    bench.detector.broken = True
    run(bench, 420)
    assert starts(bench.records) == [*range(0, 120, 10), *range(300, 360, 10)]
    assert {said(record) for record in bench.records} == {NOBODY_LOOKED}


def test_records_that_nobody_takes_do_not_end_the_thread(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    delivered = bench.desk._deliver

    def refuses(_: CountRecord) -> None:
        raise ValueError("cannot be sealed")

    bench.desk._deliver = refuses
    run(bench, 120)
    assert bench.records == []
    bench.desk._deliver = delivered
    run(bench, 120)
    assert bench.worker.state is CameraState.COUNTING
    assert bench.records[-1].present == 1
    assert threading.current_thread().is_alive()
    assert "cannot be sealed" in caplog.text


def test_the_picture_that_broke_the_counting_is_overwritten() -> None:
    bench = Bench()
    seen = []

    def breaks(frame: object) -> object:
        seen.append(frame)
        raise RuntimeError("no")

    bench.detector.detect = breaks  # type: ignore[assignment, method-assign]
    run(bench, 5)
    assert seen
    assert not any(frame.any() for frame in seen)  # type: ignore[attr-defined]
