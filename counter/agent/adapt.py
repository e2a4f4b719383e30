"""How often to look: the rate follows motion, the board's temperature and what a look costs.

Never more than the board can do: pictures that come between two looks are dropped, so there is nothing that could queue
up and delay cannot grow. When what can be done falls below what counting needs, the sensor says ``overloaded``.
"""

from __future__ import annotations

from dataclasses import dataclass, field

SETTLE_SECONDS = 5.0
OVERLOAD_SECONDS = 10.0
_HOT_SHARE = 0.25
_LEARNING = 0.1


@dataclass(slots=True)
class Pace:
    """The rate of one camera.

    Attributes:
        most: looks a second while something moves.
        idle: the same while nothing moves.
        least: below this, while something moves, the sensor is overloaded.
        share: of a second that may be spent on looking.
        warm, hot: degrees Celsius between which the rate falls to a quarter of ``most``.
        settle: seconds for which the full rate goes on after the last motion.
    """

    most: float
    idle: float
    least: float
    share: float = 0.85
    warm: float = 75.0
    hot: float = 85.0
    settle: float = SETTLE_SECONDS
    temperature: float | None = field(init=False, default=None)
    work: float = field(init=False, default=0.0)  # seconds that a look with the network takes
    overloaded: bool = field(init=False, default=False)
    _ran: bool = field(init=False, default=False)  # the network ran on the last look
    _moved: float | None = field(init=False, default=None)
    _looked: float | None = field(init=False, default=None)
    _anchor: float = field(init=False, default=0.0)  # when the last look was due: being late does not add up
    _slow_since: float | None = field(init=False, default=None)
    _gap: float = field(init=False, default=0.0)  # seconds between looks while something moves

    def due(self, t: float) -> float:
        """When the next look is due, monotonic seconds; not after ``t`` when it is due now."""
        if self._looked is None:
            return t
        return max(self._anchor, self._looked - 1.0 / self.most) + 1.0 / self.rate(t)

    def rate(self, t: float) -> float:
        """Looks a second that are wanted now."""
        return min(self.most if self._ran or self._moving(t) else self.idle, self.affordable())

    def affordable(self) -> float:
        """Looks a second that board and temperature allow."""
        allowed = self.most * self._cool()
        if self.work > 0.0:
            allowed = min(allowed, self.share / self.work)
        return max(allowed, 0.05)

    def looked(self, begin: float, end: float, *, inferred: bool) -> None:
        """Tell of a look.

        Where the network may rest, that it ran twice in a row means that something moves: after the first time the
        next look comes at the full rate, and either confirms it or was cheap.

        Args:
            begin, end: monotonic seconds.
            inferred: the network ran.
        """
        due = self.due(begin)
        self._anchor = due if self._looked is not None and 0.0 <= begin - due < 0.5 / self.rate(begin) else begin
        if inferred:
            spent = max(end - begin, 0.0)
            self.work = spent if self.work == 0.0 else self.work + _LEARNING * (spent - self.work)
        if inferred and self._ran:
            was_moving = self._moving(begin)
            self._moved = begin
            if was_moving and self._looked is not None:
                self._judge(begin - self._looked, begin)
        elif not self._moving(begin):
            self._gap, self._slow_since = 0.0, None
            if self.affordable() >= self.least:
                self.overloaded = False
        self._looked, self._ran = begin, inferred

    def pause(self) -> None:
        """Nothing was to be looked at: a camera that is away or closed is no overload."""
        self._looked = self._slow_since = self._moved = None
        self._gap = 0.0
        self._ran = self.overloaded = False

    def _moving(self, t: float) -> bool:
        return self._moved is not None and t - self._moved < self.settle

    def _cool(self) -> float:
        if self.temperature is None or self.temperature <= self.warm:
            return 1.0
        heat = min((self.temperature - self.warm) / (self.hot - self.warm), 1.0)
        return 1.0 - heat * (1.0 - _HOT_SHARE)

    def _judge(self, gap: float, t: float) -> None:
        """Judge the rate that was reached: overloaded after ten seconds below the least, over when it is kept."""
        self._gap = gap if self._gap == 0.0 else self._gap + 2.0 * _LEARNING * (gap - self._gap)
        if self._gap * self.least <= 1.1:  # ten per cent for the camera's own rhythm
            self._slow_since, self.overloaded = None, False
        elif self._slow_since is None:
            self._slow_since = t
        elif t - self._slow_since >= OVERLOAD_SECONDS:
            self.overloaded = True
