"""How often to look: the rate follows motion, the board's temperature and what a look costs.

Never more than the board can do: pictures that come between two looks are dropped, so there is nothing that could queue
up and delay cannot grow. When the rate that is reached falls below what counting needs, or below what was asked for,
the sensor says ``overloaded``.
"""

from __future__ import annotations

from dataclasses import dataclass, field

SETTLE_SECONDS = 5.0
OVERLOAD_SECONDS = 10.0
KEPT_SHARE = 0.9
"""Of the rate that counting needs, and of one that was asked for: below it the board does not keep up."""
_HOT_SHARE = 0.25
_LEARNING = 0.1


@dataclass(slots=True)
class Pace:
    """The rate of one camera.

    Attributes:
        most: looks a second while something moves.
        idle: the same while nothing moves.
        least: what counting needs: below nine tenths of it, while something moves, the sensor is overloaded.
        share: of a second that may be spent on looking.
        warm, hot: degrees Celsius between which the rate falls to a quarter of ``most``.
        settle: seconds for which the full rate goes on after the last motion.
        asked: looks a second that somebody asked for: below nine tenths of it, or of what the camera gives where that
            is less, the sensor is overloaded too. None: nobody did, and ``most`` is as many as the board can do.
        reached: looks a second over the last ten seconds in which something moved; None: not known yet.
    """

    most: float
    idle: float
    least: float
    share: float = 0.85
    warm: float = 75.0
    hot: float = 85.0
    settle: float = SETTLE_SECONDS
    asked: float | None = None
    temperature: float | None = field(init=False, default=None)
    work: float = field(init=False, default=0.0)  # seconds that a look with the network takes
    overloaded: bool = field(init=False, default=False)
    reached: float | None = field(init=False, default=None)
    _ran: bool = field(init=False, default=False)  # the network ran on the last look
    _moved: float | None = field(init=False, default=None)
    _looked: float | None = field(init=False, default=None)
    _anchor: float = field(init=False, default=0.0)  # when the last look was due: being late does not add up
    _offered: float | None = field(init=False, default=None)  # pictures a second that the camera gives
    _looks: int = field(init=False, default=0)  # while something moves, since it was last judged
    _seconds: float = field(init=False, default=0.0)  # that they took

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

    @property
    def enough(self) -> float:
        """Looks a second below which, while something moves, the sensor is overloaded."""
        wanted = 0.0 if self.asked is None or self._offered is None else min(self.asked, self._offered)
        return KEPT_SHARE * max(self.least, wanted)

    def looked(self, begin: float, end: float, *, inferred: bool, offered: float | None = None) -> None:
        """Tell of a look.

        Where the network may rest, that it ran twice in a row means that something moves: after the first time the
        next look comes at the full rate, and either confirms it or was cheap.

        Args:
            begin, end: monotonic seconds.
            inferred: the network ran.
            offered: pictures a second that the camera gives, where that is known: fewer are not the board's fault.
        """
        self._offered = offered
        due = self.due(begin)
        self._anchor = due if self._looked is not None and 0.0 <= begin - due < 0.5 / self.rate(begin) else begin
        if inferred:
            spent = max(end - begin, 0.0)
            self.work = spent if self.work == 0.0 else self.work + _LEARNING * (spent - self.work)
        if inferred and self._ran:
            was_moving = self._moving(begin)
            self._moved = begin
            if was_moving and self._looked is not None:
                self._judge(begin - self._looked)
        elif not self._moving(begin) and self.affordable() >= self.enough:
            self.overloaded = False
        self._looked, self._ran = begin, inferred

    def pause(self) -> None:
        """Nothing was to be looked at: a camera that is away or closed is no overload."""
        self._looked = self._moved = self.reached = self._offered = None
        self._looks, self._seconds = 0, 0.0
        self._ran = self.overloaded = False

    def _moving(self, t: float) -> bool:
        return self._moved is not None and t - self._moved < self.settle

    def _cool(self) -> float:
        if self.temperature is None or self.temperature <= self.warm:
            return 1.0
        heat = min((self.temperature - self.warm) / (self.hot - self.warm), 1.0)
        return 1.0 - heat * (1.0 - _HOT_SHARE)

    def _judge(self, gap: float) -> None:
        """Judge the rate over ten seconds of motion, in one piece or in several."""
        self._looks += 1
        self._seconds += gap
        if self._seconds >= OVERLOAD_SECONDS:
            self.reached = self._looks / self._seconds
            self.overloaded = self.reached < self.enough
            self._looks, self._seconds = 0, 0.0
