"""An interval for a squared gap that cannot be negative, right at zero and away from it.

Where the gap may be zero, a two-sided interval holds zero too often and may be empty below it. Here a value
belongs to the interval if the likelihood-ratio test at it accepts: by itself, the interval turns one-sided.
"""

from collections.abc import Callable
from functools import cache

import numpy as np
from scipy.stats import norm

POINTS = 401
"""Gaps tested at a time."""


def unified_interval(
    square: float,
    variance: Callable[[np.ndarray], np.ndarray],
    *,
    largest: float = 1.0,
    confidence: float = 0.95,
) -> tuple[float, float]:
    """All gaps g in [0, largest] whose square the estimate ``square`` ~ N(g^2, v(g)) does not contradict.

    Parameters
    ----------
    square
        Unbiased estimate of g^2, possibly negative.
    variance
        v, for an array of gaps.
    largest
        The largest gap there is.
    confidence
        With which the interval is to hold g, at g = 0 as elsewhere.

    Returns
    -------
    (low, high) on the scale of g. 0 is left out exactly where a one-sided test of g = 0 rejects.

    References
    ----------
    Feldman and Cousins, "Unified approach to the classical statistical analysis of small signals",
    Phys. Rev. D 57, 3873, 1998: the Gaussian with a mean bounded at zero.

    Examples
    --------
    Far from 0 it is ``sqrt(square -+ 1.96 sd)``; near it, it holds 0.

    >>> low, high = unified_interval(0.25, lambda gaps: np.full_like(gaps, 0.05**2))
    >>> round(low, 2), round(high, 2)
    (0.39, 0.59)
    >>> unified_interval(-0.01, lambda gaps: np.full_like(gaps, 0.05**2))[0]
    0.0
    """
    tested, low, high = _acceptance(confidence)
    estimate = float(
        np.clip(np.sqrt(max(square, 0.0)), 0, largest)
    )  # in the interval, however narrow that is
    first, last = 0.0, largest
    for _ in range(2):  # the second time between the points beside the ends that were found
        gaps = np.union1d(np.linspace(first, last, POINTS), estimate)
        sd = np.sqrt(variance(gaps))
        mean, seen = gaps**2 / sd, square / sd
        inside = (seen >= mean + np.interp(mean, tested, low)) & (
            seen <= mean + np.interp(mean, tested, high)
        )
        inside |= gaps == estimate
        ends = np.flatnonzero(inside)[[0, -1]]
        first, last = (float(gaps[np.clip(end, 0, len(gaps) - 1)]) for end in (ends[0] - 1, ends[1] + 1))
    return float(gaps[ends[0]]), float(gaps[ends[1]])


@cache
def _acceptance(confidence: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return means m (in sd) and the accepted range of x - m around each, highest likelihood ratio first.

    The ratio is ``exp(-(x - m)^2 / 2)`` for x >= 0, ``exp(x m - m^2 / 2)`` below, and the same at both ends:
    with x = m + r above, the lower end is ``(m^2 - r^2) / (2 m)``. Bisection for r.
    """
    two_sided, one_sided = norm.ppf((1 + confidence) / 2), norm.ppf(confidence)
    mean = np.geomspace(1e-6, two_sided, 400)
    least, most = np.full_like(mean, one_sided), np.full_like(mean, two_sided)
    for _ in range(60):
        upper = (least + most) / 2
        lower = (mean**2 - upper**2) / (2 * mean) - mean
        wide = norm.cdf(upper) - norm.cdf(lower) > confidence
        least, most = np.where(wide, least, upper), np.where(wide, upper, most)
    return mean, lower, upper
