"""The gap of the model: judge errors taken back, then the noise of counting, one interval for all of it.

In the other order the correction would blow up a noise that is no longer there.
"""

from __future__ import annotations

from functools import partial
from typing import TypedDict

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import norm, t

from fairbench.errors import UserError
from fairbench.judges.error_rates import inverse_rates
from fairbench.metrics.correction import redrawn_inverses
from fairbench.metrics.debiased import (
    image_covariance,
    largest_gap,
    sampling_variance,
    squared_gap,
    uniform_or,
)
from fairbench.metrics.unified import unified_interval

DRAWS = 500
"""Judges drawn from a confusion matrix."""
TINY = 1e-30
"""In place of a variance of zero, which a target of a single class has."""


class GapEstimate(TypedDict):
    """The root mean square gap over prompts and pairs of classes."""

    gap: float
    """``sqrt(max(0, square))``: to be read. Never below 0, so too large on average where g is near 0."""
    signed: float
    """``sign(square) sqrt(|square|)``: to be averaged over runs. Below 0: more even than by chance."""
    square: float
    """Unbiased estimate of the squared gap."""
    interval: tuple[float, float] | None
    """Of the gap; None for fewer than two prompts."""


def gap_estimate(
    counts: ArrayLike,
    target: ArrayLike | None = None,
    confusion: ArrayLike | None = None,
    *,
    confidence: float = 0.95,
    seed: int = 0,
) -> GapEstimate | None:
    """Estimate g, ``g^2 = mean over prompts and pairs of ((p_i - t_i) - (p_j - t_j))^2``, and an interval.

    The mean S of `squared_gap` over prompts, counted through the inverse of the judge's error rates. With a
    confusion matrix, judges are drawn that could have given it: how much larger they make S on
    average is subtracted, and its variance over them is added to that over prompts. See `unified_interval`.

    Parameters
    ----------
    counts
        P x K images of each class, as the judge says. A prompt with fewer than two is left out.
    target
        K probabilities; None for uniform.
    confusion
        K x K counts of labelled images, row = truth; None for a judge without errors.
    confidence
        The probability with which the interval is to hold g over all prompts of this kind.
    seed
        Of the drawn judges.

    Returns
    -------
    The estimate, or None if no prompt has two images.

    Raises
    ------
    UserError
        These are no counts, such as frequencies; the confusion matrix is none, or cannot be inverted.

    Examples
    --------
    The squared gaps are 1 and -1/3:

    >>> found = gap_estimate([[4, 0], [2, 2]])
    >>> round(found["square"], 3), round(found["gap"], 3)
    (0.333, 0.577)
    """
    table = np.atleast_2d(np.asarray(counts, dtype=float))
    known = table[~np.isnan(table).any(axis=1)]
    if (known % 1 != 0).any() or (known < 0).any():
        raise UserError("the gap is of counts, whole images of each class: do not divide them")
    table = table[table.sum(axis=1) >= 2]
    if not len(table):
        return None
    target = uniform_or(target, table.shape[1])
    inverse = np.eye(len(target)) if confusion is None else inverse_rates(confusion)
    squares = squared_gap(table, target, inverse)
    square, by_judge = float(squares.mean()), (0.0, 0.0)
    if confusion is not None:
        drawn = redrawn_inverses(confusion, DRAWS, seed)
        redone = _mean_squares(table, target, drawn)
        by_judge = _variance_on_target(target, inverse, drawn), float(redone.var())
        square = 2 * square - float(redone.mean())
    interval = None
    if len(squares) > 1:
        wider = t.ppf((1 + confidence) / 2, len(squares) - 1) / norm.ppf((1 + confidence) / 2)
        observed = float(wider**2 * squares.var(ddof=1)) / len(squares) + by_judge[1]
        counting = _counting_variances(table.sum(axis=1), target, inverse, confidence)
        largest = largest_gap(target)
        variance = partial(_variance, square, observed, counting, by_judge[0], largest)
        interval = unified_interval(square, variance, largest=largest, confidence=confidence)
    root = float(np.sqrt(abs(square)))
    return {
        "gap": root if square > 0 else 0.0,
        "signed": root if square > 0 else -root,
        "square": square,
        "interval": interval,
    }


def _variance(
    square: float,
    observed: float,
    counting: tuple[float, float],
    judge: float,
    largest: float,
    gaps: np.ndarray,
) -> np.ndarray:
    """Variance of the mean square if the gap were each of ``gaps``, which may not be below that by counting.

    On a line from the known variance on target through the ``observed`` one at the estimate; the part of
    counting alone falls to 0 at the largest gap, where every image is of one class.
    """
    null = counting[0] + judge
    line = null + max(observed - null, 0) * gaps**2 / max(square, np.sqrt(null), TINY)
    alone = (counting[0] + counting[1] * gaps**2) * (1 - (gaps / largest) ** 2)
    return np.maximum(np.maximum(line, alone + judge), TINY)


def _counting_variances(
    sizes: np.ndarray, target: np.ndarray, inverse: np.ndarray, confidence: float
) -> tuple[float, float]:
    """Variance of the mean square on target, and how fast it rises with the squared gap.

    On target the mean of squares is skewed, ``8 tr(V^3) / (2 tr(V^2))^(3/2) / sqrt(P)``: by the first term of
    Cornish and Fisher its sd is widened to that of a normal with the same upper quantile.
    """
    covariance = image_covariance(target, inverse)
    squared = covariance @ covariance
    skewness = 8 * np.trace(squared @ covariance) / np.sqrt((2 * np.trace(squared)) ** 3 * len(sizes) + TINY)
    z = norm.ppf(confidence)
    on_target, beside = (
        float(sampling_variance(sizes, target, inverse, square).mean()) / len(sizes) for square in (0, 1)
    )
    return on_target * float(1 + skewness * (z**2 - 1) / (6 * z)) ** 2, beside - on_target


def _mean_squares(counts: np.ndarray, target: np.ndarray, inverses: np.ndarray) -> np.ndarray:
    """Mean over prompts of `squared_gap` for each of many inverses, through the moments of the frequencies.

    ``c (tr(A G A^T) - 2 t^T A m + |t|^2 - sum_k h_k |a_k|^2)`` with m = mean f, h = mean f / (n - 1) and
    G = mean f f^T n / (n - 1).
    """
    n = counts.sum(axis=1, keepdims=True)
    frequency = counts / n
    second = (frequency * n / (n - 1)).T @ frequency / len(counts)
    noise = (frequency / (n - 1)).mean(axis=0)
    spread = ((inverses @ second) * inverses).sum(axis=(1, 2))
    cross = inverses @ frequency.mean(axis=0) @ target
    total = spread - 2 * cross + target @ target - (inverses**2).sum(axis=1) @ noise
    return 2 / (len(target) - 1) * total


def _variance_on_target(target: np.ndarray, inverse: np.ndarray, drawn: np.ndarray) -> float:
    """Variance, over the drawn judges, of the squared gap of a model on target whose images never end."""
    seen = drawn @ np.linalg.solve(inverse, target)
    return float((2 / (len(target) - 1) * ((seen - target) ** 2).sum(axis=1)).var())
