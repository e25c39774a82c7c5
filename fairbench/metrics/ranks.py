"""The place of each run among others, and how far it can be trusted.

Prompts are resampled, the same ones for all runs.
"""

from typing import TypedDict

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import rankdata


class Rank(TypedDict):
    """A place; 1 is the lowest mean."""

    rank: float
    interval: tuple[float, float]


def rank_intervals(
    values: ArrayLike,
    *,
    paired: bool = True,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> list[Rank]:
    """Rank runs by their mean over prompts; the interval is that of the ranks in bootstrapped prompts.

    Parameters
    ----------
    values
        R x P; nan for a prompt without a value.
    paired
        Whether column p is the same prompt in all runs; then all are given the same resampled prompts.
    confidence
        Of each interval on its own (percentiles).
    resamples, seed
        Of the bootstrap.

    Returns
    -------
    One per run. Runs with equal means share the mean of their places; one without any value is last.

    Examples
    --------
    >>> rank_intervals([[0.5, 0.6], [0.1, 0.2]])
    [{'rank': 2.0, 'interval': (2.0, 2.0)}, {'rank': 1.0, 'interval': (1.0, 1.0)}]
    """
    table = np.asarray(values, dtype=float)
    runs, prompts = table.shape
    rng, even = np.random.default_rng(seed), np.full(prompts, 1 / prompts)
    weights = rng.multinomial(prompts, even, size=resamples).T
    means = np.empty((runs, resamples))
    for run, row in enumerate(table):
        means[run] = _means(row, weights)
        if not paired:
            weights = rng.multinomial(prompts, even, size=resamples).T
    tail = (1 - confidence) / 2
    low, high = np.quantile(rankdata(means, axis=0), [tail, 1 - tail], axis=1, method="nearest")
    own = rankdata(np.concatenate([_means(row, np.ones((prompts, 1))) for row in table]))
    return [
        {"rank": float(place), "interval": (float(least), float(most))}
        for place, least, most in zip(own, low, high, strict=True)
    ]


def _means(row: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the weighted means of what is known, equal where only rounding differs; inf of nothing."""
    count = (~np.isnan(row)) @ weights
    return np.where(count > 0, (np.nan_to_num(row) @ weights / np.maximum(count, 1)).round(12), np.inf)
