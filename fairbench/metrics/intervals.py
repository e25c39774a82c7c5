"""How far the mean over prompts can be trusted: by resampling whole prompts, and by Student's t.

The images of one prompt belong together, so that more images per prompt do not stand in for more prompts.
"""

import warnings
from collections.abc import Iterable
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import bootstrap, t


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

    Examples
    --------
    >>> mean_interval([0.5, 0.5, None])
    (0.5, 0.5)
    """
    sample = _present(values)
    if len(sample) < 2:
        return None
    if np.ptp(sample) == 0:
        return float(sample[0]), float(sample[0])
    low, high = _bootstrap(sample, "BCa", confidence, resamples, seed)
    if np.isnan(low) or np.isnan(high):  # BCa has no answer for some samples of a few prompts
        low, high = _bootstrap(sample, "percentile", confidence, resamples, seed)
    return low, high


def t_interval(values: Iterable[float | None], *, confidence: float = 0.95) -> tuple[float, float] | None:
    """Return ``m -+ t_{P-1} s / sqrt(P)`` of one value per prompt, an answer without chance and for any seed.

    Parameters
    ----------
    values
        One per prompt; None or nan for a prompt without a value, which is left out.
    confidence
        The probability with which the interval is to hold the mean over all prompts of this kind.

    Returns
    -------
    (low, high), or None for fewer than two prompts.

    Examples
    --------
    The mean is 1.5, its standard error 0.5, and the quartiles of t with one degree of freedom -1 and 1:

    >>> low, high = t_interval([1, 2], confidence=0.5)
    >>> round(low, 3), round(high, 3)
    (1.0, 2.0)
    """
    sample = _present(values)
    if len(sample) < 2:
        return None
    margin = float(t.ppf((1 + confidence) / 2, len(sample) - 1) * sample.std(ddof=1) / np.sqrt(len(sample)))
    return float(sample.mean()) - margin, float(sample.mean()) + margin


def bounds_interval(bounds: ArrayLike, *, confidence: float = 0.95) -> tuple[float, float] | None:
    """Return the interval that holds the mean bias whatever the images without a face are of.

    From the lower end of `t_interval` of the least values to the upper end of that of the largest.

    Parameters
    ----------
    bounds
        P x 2 least and largest values, one row per prompt, see `fairbench.metrics.bias.bias_bounds`.
    confidence
        The probability with which both means lie inside, at least.

    Examples
    --------
    >>> bounds_interval([[0.25, 0.5], [0.25, 0.5]])
    (0.25, 0.5)
    """
    table = np.asarray(bounds, dtype=float).reshape(-1, 2)
    least, largest = (t_interval(column, confidence=confidence) for column in table.T)
    return (least[0], largest[1]) if least and largest else None


def _present(values: Iterable[float | None]) -> np.ndarray:
    return np.array([value for value in values if value is not None and not np.isnan(value)], dtype=float)


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
