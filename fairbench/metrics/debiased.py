"""The gap between classes without the part that the small number of images adds to it.

A fair model's measured bias is above zero by chance; its squared gaps, corrected here, are zero on average.
"""

import numpy as np
from numpy.typing import ArrayLike

from fairbench.metrics.bias import pairs


def squared_gaps(counts: ArrayLike) -> np.ndarray:
    """Unbiased estimates of (p_i - p_j)^2 for every pair: ``(n (f_i - f_j)^2 - (f_i + f_j)) / (n - 1)``.

    As the counts are multinomial, ``E (f_i - f_j)^2 = (p_i - p_j)^2 + (p_i + p_j - (p_i - p_j)^2) / n``; this
    is solved for the first term. Two classes: ``(n d^2 - 1) / (n - 1)``, d = f_0 - f_1. May be negative.

    Parameters
    ----------
    counts
        ... x K images of each class, one row per prompt.

    Returns
    -------
    ... x K (K - 1) / 2 estimates; nan in a row with fewer than two images.
    """
    counts = np.asarray(counts, dtype=float)
    n = counts.sum(axis=-1, keepdims=True)
    n = np.where(n < 2, np.nan, n)
    first, second = pairs(counts / n)
    return (n * (first - second) ** 2 - (first + second)) / (n - 1)


def debiased_gap(counts: ArrayLike) -> float | None:
    """``sqrt(max(0, mean over prompts and pairs of (p_i - p_j)^2))``, from unbiased estimates of the squares.

    It estimates the gap of the *model*, not of the images drawn: with more prompts, a fair model tends to 0
    however few the images of each. It is a root mean square, so at least the mean absolute gap that ``bias``
    is about, and equal to it where all prompts and pairs have the same gap.

    Parameters
    ----------
    counts
        P x K images of each class. A prompt with fewer than two usable images is left out.

    Returns
    -------
    The gap, or None if no prompt has an estimate.
    """
    squares = squared_gaps(np.atleast_2d(counts)).mean(axis=-1)
    squares = squares[~np.isnan(squares)]
    return float(np.sqrt(max(0.0, squares.mean()))) if len(squares) else None
