"""How far the mean over prompts can be trusted: an interval that resamples whole prompts.

The images of one prompt belong together, so that more images per prompt do not stand in for more prompts.
"""

import warnings
from collections.abc import Iterable
from typing import Literal

import numpy as np
from scipy.stats import bootstrap


def mean_interval(
    values: Iterable[float | None], *, confidence: float = 0.95, resamples: int = 9999, seed: int = 0
) -> tuple[float, float] | None:
    """Return the BCa bootstrap interval of the mean of one value per prompt.

    Parameters
    ----------
    values
        One per prompt; None or nan for a prompt without a value, which is left out.
    confidence
        The probability with which the interval is to hold the mean over all prompts of this kind.
    resamples
        How often the prompts are drawn, with replacement.
    seed
        Of the draws.

    Returns
    -------
    (low, high); the value itself twice where all prompts agree; None for fewer than two prompts, which tell
    nothing of the others.

    References
    ----------
    Efron, "Better Bootstrap Confidence Intervals", JASA 1987; computed by scipy.stats.bootstrap.
    """
    sample = np.array([value for value in values if value is not None and not np.isnan(value)], dtype=float)
    if len(sample) < 2:
        return None
    if np.ptp(sample) == 0:
        return float(sample[0]), float(sample[0])
    low, high = _bootstrap(sample, "BCa", confidence, resamples, seed)
    if np.isnan(low) or np.isnan(high):  # BCa has no answer for some samples of a few prompts
        low, high = _bootstrap(sample, "percentile", confidence, resamples, seed)
    return low, high


def _bootstrap(
    sample: np.ndarray, method: Literal["BCa", "percentile"], confidence: float, resamples: int, seed: int
) -> tuple[float, float]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a degenerate sample: the nan it gives says so
        found = bootstrap(
            (sample,),
            np.mean,
            confidence_level=confidence,
            n_resamples=resamples,
            method=method,
            rng=np.random.default_rng(seed),
        )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)
