"""What goes wrong during a soak, and when: fixed before it begins, so that every process knows it without being told.

Moments are simulated seconds since the beginning of the soak. All processes read the same machine-wide monotonic clock,
so that an agent that is killed and started again finds the time that has really passed.
"""

from __future__ import annotations

import json
import random
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self

Window = tuple[float, float]
CAMERAS = ("bench-0", "bench-1")


@dataclass(frozen=True)
class Plan:
    """A whole soak.

    Attributes:
        begin: ``time.monotonic()`` at the beginning.
        epoch: the sensor's wall clock at the beginning, seconds since 1970.
        agent: when the agent ends, and how: ``KILL`` or ``TERM``; it is started again at once.
        service: when the service is killed; it is started again at once.
        jumps: when the wall clock is set, and by how much.
        unplugged: when the first camera gives nothing.
        broken: when the second camera raises.
        offline: when nothing gets through; ``deaf``: when batches arrive and answers do not.
    """

    begin: float
    speed: float
    duration: float
    epoch: float
    interval: int
    hours: tuple[str, ...]
    agent: tuple[tuple[float, str], ...] = ()
    service: tuple[float, ...] = ()
    jumps: tuple[tuple[float, float], ...] = ()
    unplugged: tuple[Window, ...] = ()
    broken: tuple[Window, ...] = ()
    offline: tuple[Window, ...] = ()
    deaf: tuple[Window, ...] = ()
    extra: dict[str, str] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def load(cls, path: Path) -> Self:
        values = json.loads(path.read_text())
        pairs = ("agent", "jumps", "unplugged", "broken", "offline", "deaf")
        return cls(**{k: tuple(tuple(x) for x in v) if k in pairs else v for k, v in values.items()})


def short(epoch: float) -> Plan:
    """25 minutes at sixty-fold speed, from five to seven: one of everything."""
    return Plan(
        begin=time.monotonic(),
        speed=60.0,
        duration=1_500.0,
        epoch=epoch - 300.0,
        interval=10,
        hours=("07:00-07:12", "07:14-22:00"),
        agent=((390.0, "KILL"), (640.0, "TERM"), (760.0, "KILL")),
        service=(900.0,),
        jumps=((480.0, 120.0), (1_200.0, -40.0)),
        unplugged=((330.0, 365.0), (1_300.0, 1_345.0)),
        broken=((1_000.0, 1_020.0),),
        offline=((560.0, 620.0),),
        deaf=((820.0, 860.0),),
    )


def long(epoch: float, speed: float, seed: int = 7) -> Plan:
    """A day from midnight to midnight: the same again and again, at moments that no hour repeats."""
    chance = random.Random(seed)
    hour = 3_600.0

    def at(*hours: float) -> list[float]:
        return [h * hour + chance.uniform(0.0, 600.0) for h in hours]

    def windows(least: float, most: float, *hours: float) -> tuple[Window, ...]:
        return tuple((t, t + chance.uniform(least, most)) for t in at(*hours))

    kills = [(t, "KILL") for t in at(5.0, 7.3, 8.6, 11.2, 13.4, 15.1)]
    ends = [(t, "TERM") for t in at(6.5, 9.7, 14.3)]
    return Plan(
        begin=time.monotonic(),
        speed=speed,
        duration=24 * hour,
        epoch=epoch - 7 * hour,
        interval=60,
        hours=("07:00-12:00", "12:30-22:00"),
        agent=tuple(sorted(kills + ends)),
        service=tuple(at(8.2, 12.9, 18.2)),
        jumps=tuple(zip(at(7.8, 10.4, 12.2, 16.6, 19.1), (900.0, -300.0, 3_600.0, -500.0, 30.0), strict=True)),
        unplugged=windows(60.0, 900.0, 8.0, 10.1, 13.8, 16.1, 17.4, 18.8, 20.0),
        broken=windows(30.0, 300.0, 9.2, 11.8, 15.8, 17.9, 20.4),
        offline=windows(300.0, 3_000.0, 9.4, 13.0, 17.0, 19.4),
        deaf=windows(60.0, 600.0, 10.8, 14.7, 18.5),
    )


class SoakClock:
    """The sensor's clocks (an `AgentClock`): fast, and set now and then, as the plan says."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    def elapsed(self) -> float:
        """Simulated seconds since the soak began."""
        return (time.monotonic() - self.plan.begin) * self.plan.speed

    def monotonic(self) -> float:
        return self.elapsed()

    def time(self) -> float:
        now = self.elapsed()
        return self.plan.epoch + now + sum(by for at, by in self.plan.jumps if at <= now)

    def sleep(self, seconds: float) -> None:
        time.sleep(max(seconds, 0.0) / self.plan.speed)

    def wait(self, event: threading.Event, seconds: float) -> bool:
        return event.wait(max(seconds, 0.0) / self.plan.speed)

    def inside(self, windows: tuple[Window, ...]) -> bool:
        """Whether one of these windows is open now."""
        now = self.elapsed()
        return any(begin <= now < end for begin, end in windows)
