"""An interval for a squared gap that cannot be negative, right at zero and away from it.

Where the gap may be zero, a two-sided interval holds zero too often and may be empty below it. Here a value
belongs to the interval if the likelihood-ratio test at it accepts, so that the interval turns one-sided by itself.
"""

from functools import cache

import numpy as np
from scipy.stats import norm

def unified_interval(
    square: float, gaps: np.ndarray, variances: np.ndarray, *, confidence: float = 0.95
) -> tuple[float, float]:
    """All gaps g whose square the estimate ``square`` ~ N(g^2, v(g)) does not contradict.

    Parameters
    ----------
    square
        Unbiased estimate of g^2, possibly negative.
    gaps
        The gaps to test, from 0 to the largest there is.
    variances
        v at each of them.
    confidence
        With which the interval is to hold g, at g = 0 as elsewhere.

    Returns
    -------
    (low, high) on the scale of g. 0 is left out exactly where a one-sided test of g = 0 rejects.

    References
    ----------
    Feldman and Cousins, "Unified approach to the classical statistical analysis of small signals",
    Phys. Rev. D 57, 3873, 1998: the Gaussian with a mean bounded at zero.
    """
    sd = np.sqrt(variances)
    mean, seen = gaps**2 / sd, square / sd
    tested, low, high = _acceptance(confidence)
    inside = (seen >= mean + np.interp(mean, tested, low)) & (seen <= mean + np.interp(mean, tested, high))
    accepted = gaps[inside] if inside.any() else gaps[-1:]  # none: the estimate lies beyond every gap there is
    return float(accepted[0]), float(accepted[-1])


@cache
def _acceptance(confidence: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return means m (in sd) and the accepted range of x - m around each, highest likelihood ratio first.

    The ratio is ``exp(-(x - m)^2 / 2)`` for x >= 0 and ``exp(x m - m^2 / 2)`` below; that of both ends agrees:
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
