"""How many people are inside, from crossings and from what is seen, each correcting the other's drift.

In minus out drifts: one missed crossing stays for ever. What is seen flickers: people hide behind others for a while.
Held against each other they need not:

* a crossing counts at once (+1, -1, never below 0);
* more people seen inside than believed, for ``rise_seconds``: an entry was missed, and what is seen holds;
* fewer seen than believed, for ``fall_seconds``, where the camera sees the whole room: an exit was missed or the entry
  was none, and the most that was seen in that time holds;
* where the camera does not see the whole room (a door), not seeing somebody proves nothing: only the first two apply.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Occupancy:
    """The number of people inside, one instance a camera.

    Attributes:
        sees_room: whether everybody inside can be seen. Decides whether unseen people are given up.
        rise_seconds: longer is surer that a surplus is no ghost.
        fall_seconds: longer carries people over longer occlusions.
    """

    sees_room: bool
    rise_seconds: float = 2.0
    fall_seconds: float = 30.0
    _inside: int = 0
    _surplus_since: float | None = field(init=False, default=None)
    _surplus: int = field(init=False, default=0)
    _deficit_since: float | None = field(init=False, default=None)
    _most: int = field(init=False, default=0)
    corrections: int = field(init=False, default=0)

    def update(self, t: float, seen: int, entered: int, left: int) -> int:
        """Take one frame.

        Args:
            t: monotonic seconds.
            seen: people seen inside now, briefly hidden ones included.
            entered: crossings inwards since the last frame.
            left: crossings outwards since the last frame.

        Returns:
            The people believed to be inside.
        """
        self._inside = max(self._inside + entered - left, 0)
        self._rise(t, seen)
        if self.sees_room:
            self._fall(t, seen)
        return self._inside

    def restart(self) -> None:
        """The clock of the evidence begins anew, as after a gap; the number stays."""
        self._surplus_since = self._deficit_since = None

    def _rise(self, t: float, seen: int) -> None:
        if seen <= self._inside:
            self._surplus_since = None
            return
        if self._surplus_since is None:
            self._surplus_since, self._surplus = t, seen
        self._surplus = min(self._surplus, seen)
        if t - self._surplus_since >= self.rise_seconds:
            self._correct(self._surplus)

    def _fall(self, t: float, seen: int) -> None:
        if seen >= self._inside:
            self._deficit_since = None
            return
        if self._deficit_since is None:
            self._deficit_since, self._most = t, seen
        self._most = max(self._most, seen)
        if t - self._deficit_since >= self.fall_seconds:
            self._correct(self._most)

    def _correct(self, value: int) -> None:
        self._inside = value
        self.corrections += 1
        self.restart()
