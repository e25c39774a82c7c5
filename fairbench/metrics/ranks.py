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
    One per run. Runs with equal means share the mean of their places.
    """
    table = np.asarray(values, dtype=float)
    runs, prompts = table.shape
    known, filled = ~np.isnan(table), np.nan_to_num(table)
    rng = np.random.default_rng(seed)
    means = np.empty((runs, resamples))
    weights = rng.multinomial(prompts, np.full(prompts, 1 / prompts), size=resamples).T
    for run in range(runs):
        if not paired and run:
            weights = rng.multinomial(prompts, np.full(prompts, 1 / prompts), size=resamples).T
        with np.errstate(invalid="ignore"):
            means[run] = filled[run] @ weights / (known[run] @ weights)
    places = rankdata(means.round(12), axis=0, nan_policy="omit")
    tail = (1 - confidence) / 2
    low, high = np.nanquantile(places, [tail, 1 - tail], axis=1, method="nearest")
    with np.errstate(invalid="ignore"):
        own = rankdata((filled.sum(axis=1) / known.sum(axis=1)).round(12))
    return [
        {"rank": float(place), "interval": (float(least), float(most))}
        for place, least, most in zip(own, low, high, strict=True)
    ]
