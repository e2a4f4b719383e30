"""Student's t distribution, without SciPy: a sensor need not carry 40 MB for two numbers.

The regularised incomplete beta function is its continued fraction (DLMF 8.17.22), evaluated by Lentz's method as
modified by Thompson and Barnett (J. Comput. Phys. 64, 1986). A test holds both functions against SciPy.
"""

from __future__ import annotations

import math

_TINY = 1e-300
_PRECISION = 1e-15
_MOST_TERMS = 500


def t_cdf(t: float, df: float) -> float:
    """The probability that a t-distributed number with ``df`` degrees of freedom is at most ``t``.

    Raises:
        ValueError: ``df`` is not above 0, or ``t`` is not a number.
    """
    if not df > 0 or math.isnan(t):
        raise ValueError(f"expected df above 0 and a number t, got df={df}, t={t}")
    if math.isinf(t):
        return 1.0 if t > 0 else 0.0
    # The smaller of x and 1 - x is computed directly: the other would lose its digits near 1.
    square = t * t
    both_tails = _incomplete_beta(df / 2, 0.5, df / (df + square), square / (df + square))
    return 1.0 - both_tails / 2 if t > 0 else both_tails / 2


def t_quantile(p: float, df: float) -> float:
    """The number below which a t-distributed one lies with probability ``p``; the inverse of :func:`t_cdf`.

    Raises:
        ValueError: ``p`` does not lie between 0 and 1.
    """
    if not 0.0 < p < 1.0:
        raise ValueError(f"expected p between 0 and 1, got {p}")
    if p == 0.5:
        return 0.0
    if p < 0.5:
        return -t_quantile(1.0 - p, df)
    high = 1.0
    while t_cdf(high, df) < p and high < 1e300:
        high *= 2.0
    low = 0.0
    for _ in range(200):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        if t_cdf(middle, df) < p:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _incomplete_beta(a: float, b: float, x: float, rest: float) -> float:
    """I_x(a, b) for ``x`` in [0, 1] and ``rest`` = 1 - x."""
    if x <= 0.0:
        return 0.0
    if rest <= 0.0:
        return 1.0
    front = math.exp(
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log(rest),
    )
    if x < (a + 1.0) / (a + b + 2.0):
        return front * _fraction(a, b, x) / a
    return 1.0 - front * _fraction(b, a, rest) / b


def _fraction(a: float, b: float, x: float) -> float:
    """The continued fraction of the incomplete beta function; converges fast for x below (a + 1) / (a + b + 2)."""
    c, d = 1.0, _kept(1.0 - (a + b) * x / (a + 1.0))
    d = 1.0 / d
    value = d
    for m in range(1, _MOST_TERMS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        step = 1.0
        for term in (even, odd):
            d = 1.0 / _kept(1.0 + term * d)
            c = _kept(1.0 + term / c)
            step = c * d
            value *= step
        if abs(step - 1.0) < _PRECISION:
            break
    return value


def _kept(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
