"""What simulated people do, and the truth about each booking that follows from it.

Times are minutes, with fractions, since the begin of the simulated period. Nothing here knows of sensors or matching:
the truth is computed from each person's coming and going and from whose booking brought them, which no sensor knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analytics.domain.matching import Flag, Outcome
from analytics.domain.plan import MatchRules

Times = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Stays:
    """Visits to a room: somebody comes at ``enter`` and goes at ``leave``; a break is two visits."""

    enter: Times
    leave: Times

    @classmethod
    def join(cls, stays: Sequence[Stays]) -> Stays:
        if not stays:
            return cls(np.zeros(0), np.zeros(0))
        return cls(np.concatenate([s.enter for s in stays]), np.concatenate([s.leave for s in stays]))

    def minutes(self, length: int) -> tuple[Times, Times, Times]:
        """People in the room at the middle of each minute, people who came and who went in it."""
        entered = np.bincount(np.clip(self.enter, 0, length - 1).astype(np.int64), minlength=length)[:length]
        left = np.bincount(np.clip(self.leave, 0, length - 1).astype(np.int64), minlength=length)[:length]
        mid_in = np.bincount(np.clip(np.ceil(self.enter - 0.5), 0, length).astype(np.int64), minlength=length + 1)
        mid_out = np.bincount(np.clip(np.ceil(self.leave - 0.5), 0, length).astype(np.int64), minlength=length + 1)
        present = np.cumsum(mid_in[:length] - mid_out[:length])
        return present.astype(np.float64), entered.astype(np.float64), left.astype(np.float64)


@dataclass(frozen=True)
class Held:
    """How one booking went.

    Attributes:
        stays: its people's visits.
        attendance: people who were there for at least half of the time that it was held.
        begin, finish: when half of the attendance was in, and when half had gone for good; NaN for a no-show.
        last: when the last of its people left; NaN for a no-show.
    """

    stays: Stays
    attendance: int
    begin: float
    finish: float
    last: float


def nobody() -> Held:
    """A booking to which none of its people came."""
    return Held(Stays(np.zeros(0), np.zeros(0)), 0, np.nan, np.nan, np.nan)


def hold(
    rng: np.random.Generator, start: float, end: float, offset: int, enrolled: int, show: float, free_from: float,
    free_until: float,
) -> Held:  # fmt: skip
    """Let the people of one booking come and go.

    Args:
        start, end: of the booking.
        offset: minutes after which the event starts (academic quarter).
        free_from: when the room became free; nobody enters a room in which others still sit.
        free_until: when others have it next; people who linger go then at the latest.
    """
    people = int(rng.binomial(enrolled, show))
    if people == 0:
        return nobody()
    opens = start + offset + rng.normal(0, 2)
    if rng.random() < 0.06:
        opens += rng.exponential(18)
    opens = min(max(opens, free_from), end - 15)
    closes = end + rng.normal(-3, 3)
    chance = rng.random()
    if chance < 0.09:
        closes -= rng.exponential(25)
    elif chance < 0.14:
        closes += rng.exponential(12)
    closes = min(max(closes, opens + min(20.0, 0.4 * (end - start))), free_until)
    early = opens - np.abs(rng.normal(3, 3, people))  # most wait at the door or sit down before it begins
    late = rng.random(people) < 0.12
    enter = np.where(late, opens + rng.exponential(8, people), early)
    enter[0] = opens - rng.uniform(2, 10)  # who opens the room
    enter = np.maximum(enter, free_from + rng.uniform(0.2, 2.5, people))
    leave = closes + np.minimum(rng.exponential(1.2, people), 6)
    gone = (rng.random(people) < 0.05) & (np.arange(people) > 0)
    leave = np.where(gone, rng.uniform(opens + 0.4 * (closes - opens), closes, people), leave)
    if rng.random() < 0.04:  # a few stay and talk
        staying = rng.choice(people, size=min(people, 3), replace=False)
        leave[staying] = np.minimum(leave[staying] + rng.uniform(5, 30), free_until)
    leave = np.maximum(np.minimum(leave, max(free_until, closes) + 2), enter + 1.0)
    there = (leave - enter) >= 0.5 * (closes - opens)
    attendance = int(there.sum())
    order_in, order_out = np.sort(enter), np.sort(leave)
    half = (max(attendance, 1) + 1) // 2
    begin = float(order_in[min(half, people) - 1])
    finish = float(order_out[people - half])
    stays = [Stays(enter, leave)]
    if closes - opens > 80 and rng.random() < 0.4:
        stays = [_with_break(rng, enter, leave, opens + 45 + rng.normal(0, 3))]
    return Held(stays[0], attendance, begin, finish, float(order_out[-1]))


def _with_break(rng: np.random.Generator, enter: Times, leave: Times, at: float) -> Stays:
    """About half go out for ten to fifteen minutes and come back."""
    out = at + rng.uniform(0, 3, enter.size)
    back = out + rng.uniform(7, 13, enter.size)
    goes = (rng.random(enter.size) < rng.uniform(0.2, 0.7)) & (enter < at - 1) & (leave > back + 1)
    return Stays(
        np.concatenate([enter, back[goes]]),
        np.concatenate([np.where(goes, out, leave), leave[goes]]),
    )


def wander(rng: np.random.Generator, gaps: Sequence[tuple[float, float]], weekday: int) -> list[Stays]:
    """Use that nobody booked: students in free hours, a cleaner in the morning, a caretaker who looks in."""
    visits: list[Stays] = []
    for begin, end in gaps:
        if end - begin >= 45 and rng.random() < 0.22 * (end - begin) / 120:
            size = int(rng.integers(1, 6))
            come = rng.uniform(begin + 2, end - 35)
            go = min(end - 2, come + rng.uniform(25, 150))
            visits.append(Stays(come + rng.uniform(0, 4, size), go - rng.uniform(0, 4, size)))
        elif end - begin >= 10 and rng.random() < 0.1:
            come = rng.uniform(begin, end - 5)
            visits.append(Stays(np.array([come]), np.array([come + rng.uniform(0.6, 2.5)])))
    if weekday < 5 and rng.random() < 0.5 and gaps and gaps[0][1] - gaps[0][0] > 25:
        come = gaps[0][0] + rng.uniform(1, 12)
        visits.append(Stays(np.array([come]), np.array([come + rng.uniform(4, 9)])))
    return visits


def true_outcome(held: Held, start: float, end: float, capacity: int, rules: MatchRules) -> tuple[Outcome, Flag]:
    """What happened, by the definitions of the outcomes applied to the people themselves."""
    if held.stays.enter.size == 0:
        return Outcome.NO_SHOW, Flag.NO_SHOW
    flags = Flag(0)
    if held.attendance > capacity + max(rules.over_people, rules.over_share * capacity):
        flags |= Flag.OVER_CAPACITY
    if held.finish - end > rules.overrun:
        flags |= Flag.OVERRUN
    if end - rules.end_offset - held.finish > rules.early:
        flags |= Flag.EARLY_END
    if held.begin - start - rules.start_offset > rules.late:
        flags |= Flag.LATE_START
    for flag, outcome in (
        (Flag.OVER_CAPACITY, Outcome.OVER_CAPACITY),
        (Flag.OVERRUN, Outcome.OVERRUN),
        (Flag.EARLY_END, Outcome.EARLY_END),
        (Flag.LATE_START, Outcome.LATE_START),
    ):
        if flags & flag:
            return outcome, flags
    return Outcome.HELD, flags
