"""Whether a method changed a number.

Both variants share prompts and noise, so they are compared prompt by prompt.
"""

from collections.abc import Mapping
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray
from scipy.stats import permutation_test


class Comparison(TypedDict):
    """What the paired test found."""

    difference: float
    """Mean over prompts of method - original."""
    p_value: float
    """Two-sided."""
    prompts: int
    """Prompts with a value in both."""


def paired_permutation_test(
    original: Mapping[str, float | None],
    method: Mapping[str, float | None],
    *,
    resamples: int = 9999,
    seed: int = 0,
) -> Comparison | None:
    """Test that swapping original and method within a prompt changes nothing, by ``mean(method - original)``.

    Exact, over all 2^P ways to swap, where these are no more than ``resamples``.

    Parameters
    ----------
    original, method
        Prompt id -> value. Prompts that only one of them has, or without a value in one, are left out.
    resamples
        How many ways to swap are drawn where they are more.
    seed
        Of the draws.

    Returns
    -------
    The comparison; None if no prompt has a value in both.
    """
    shared = [(original[key], method[key]) for key in original if key in method]
    both = np.array([pair for pair in shared if None not in pair], dtype=float).reshape(-1, 2)
    both = both[~np.isnan(both).any(axis=1)]
    if not len(both):
        return None
    found = permutation_test(
        (both[:, 1], both[:, 0]),
        _mean_difference,
        permutation_type="samples",
        vectorized=True,
        n_resamples=resamples,
        rng=np.random.default_rng(seed),
    )
    return {"difference": float(found.statistic), "p_value": float(found.pvalue), "prompts": len(both)}


def _mean_difference(
    method: NDArray[np.float64], original: NDArray[np.float64], axis: int
) -> NDArray[np.float64]:
    return np.mean(method - original, axis=axis)
