"""How many images a plan made in advance would need for an interval of the gap to be so narrow."""

import numpy as np
from scipy.stats import norm

STEPS = 200
"""Gaps that are tried, from none to the largest."""


def images_for_width(
    prompts: int, classes: int, width: float, *, gap: float | None = None, confidence: float = 0.95
) -> int:
    """Images, equally many of each prompt, for the interval of the root mean square gap to have ``width``.

    The squared gap of a prompt is ``2 / (K - 1) (U - 1 / K)``, U the share of its pairs of images that are of
    one class; ``Var U = 2 (2 (n - 2) (s_3 - s_2^2) + s_2 - s_2^2) / (n (n - 1))``, s_j = sum_k p_k^j. The
    mean over prompts is taken as normal, and the roots of the ends of its interval are those of the gap's.

    Parameters
    ----------
    prompts, classes
        P and K.
    width
        High minus low.
    gap
        What every prompt is taken to have, with one class favoured and the others alike; None for not
        knowing: the gap that needs most.
    confidence
        Of an interval that is looked at once, at the end.

    References
    ----------
    Hoeffding, "A Class of Statistics with Asymptotically Normal Distribution", Annals of Statistics 1948.

    Examples
    --------
    With two even prompts it ends at the root of ``1.96 / sqrt(n (n - 1))``, below 0.2 from n = 50:

    >>> images_for_width(prompts=2, classes=2, width=0.2, gap=0)
    100
    """
    highest = np.sqrt(2 / classes)
    gaps = np.linspace(0, highest, STEPS) if gap is None else np.array([min(gap, highest)])
    low, high = 1, 2
    while _widest(high, gaps, prompts, classes, confidence) > width:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        if _widest(middle, gaps, prompts, classes, confidence) > width:
            low = middle
        else:
            high = middle
    return prompts * high


def _widest(n: int, gaps: np.ndarray, prompts: int, classes: int, confidence: float) -> float:
    squares = gaps**2
    favoured = (1 + (classes - 1) * gaps / np.sqrt(2 / classes)) / classes
    others = (1 - favoured) / (classes - 1)
    second, third = (favoured**k + (classes - 1) * others**k for k in (2, 3))
    variance = 2 * (2 * (n - 2) * (third - second**2) + second - second**2) / (n * (n - 1))
    reach = norm.ppf((1 + confidence) / 2) * 2 / (classes - 1) * np.sqrt(variance.clip(0) / prompts)
    top, bottom = (squares + reach).clip(0, 2 / classes), (squares - reach).clip(0)
    return float((np.sqrt(top) - np.sqrt(bottom)).max())
