"""How far a sensor agrees with a person who counted who is there, at moments. Pure arithmetic, like `statistics`.

Passages say who came and went; a room is planned by who is in it. The person counts heads now and then, the sensor's
figure is the one around that moment. Errors are given in people (mean absolute error, signed bias), each with an
interval; whether the bias is harmless is the same test of equivalence as for passages, relative to the mean of the
people who were there. It takes the moments for independent: minutes apart, with people coming and going between.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from counter.validation.statistics import Equivalence, equivalence, wape
from counter.validation.student import t_quantile

NEAR_SECONDS = 5.0
"""The sensor's looks within this of a moment speak for it: a person needs about as long to count a room."""


@dataclass(frozen=True, slots=True, order=True)
class Heads:
    """People who were there at a moment, seconds since 1970."""

    t: float
    people: int


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean over the moments, with its confidence interval; the interval is None with a single moment."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Moment:
    """What both said; ``counted`` is None where the sensor did not look."""

    t: float
    truth: int
    counted: int | None


@dataclass(frozen=True, slots=True)
class Presence:
    """Everything the report says about people present.

    Attributes:
        error: mean absolute error, people.
        bias: mean of counted less truth, people; above 0: too many.
        exact, within_one: shares of the moments.
        wape: sum of absolute errors over the sum of the truth; None when nobody was ever there.
        test: of equivalence, on the moments at which the sensor looked.
        sure: level of the intervals, 1 - 2 alpha.
    """

    moments: tuple[Moment, ...]
    error: Mean | None
    bias: Mean | None
    exact: float | None
    within_one: float | None
    wape: float | None
    test: Equivalence
    sure: float

    @property
    def unknown(self) -> int:
        """Moments at which the sensor did not look."""
        return sum(moment.counted is None for moment in self.moments)


def compare(
    heads: Sequence[Heads], looks: Sequence[Heads], start: float, end: float, margin: float, alpha: float
) -> Presence | None:
    """Compare counts of heads with the sensor's looks over ``[start, end)``; None where nobody counted heads.

    Args:
        heads: what the person counted.
        looks: what the sensor said, as often as it was asked.
        margin, alpha: see `equivalence`.
    """
    moments = tuple(Moment(one.t, one.people, _around(one.t, looks)) for one in sorted(heads) if start <= one.t < end)
    if not moments:
        return None
    known = [(moment.truth, moment.counted) for moment in moments if moment.counted is not None]
    truth, counted = [t for t, _ in known], [c for _, c in known]
    errors = [c - t for t, c in known]
    return Presence(
        moments,
        _mean([abs(error) for error in errors], alpha, least=0.0),
        _mean(errors, alpha),
        _share(errors, 0),
        _share(errors, 1),
        wape(truth, counted),
        equivalence(truth, counted, margin, alpha),
        1.0 - 2.0 * alpha,
    )


def _around(t: float, looks: Sequence[Heads]) -> int | None:
    """The median of the looks around a moment, of two middles the lower: as in a count record."""
    near = [look.people for look in looks if abs(look.t - t) <= NEAR_SECONDS]
    return statistics.median_low(near) if near else None


def _mean(values: Sequence[int], alpha: float, least: float = -math.inf) -> Mean | None:
    n = len(values)
    if not n:
        return None
    value = sum(values) / n
    if n < 2:
        return Mean(value, None, None)
    # A few moments without any error do not prove that there never is one: as in `equivalence`.
    spread = math.sqrt(max(statistics.variance(values, value), 1.0 / n) / n)
    reach = t_quantile(1.0 - alpha, n - 1) * spread
    return Mean(value, max(value - reach, least), value + reach)


def _share(errors: Sequence[int], most: int) -> float | None:
    return sum(abs(error) <= most for error in errors) / len(errors) if errors else None
