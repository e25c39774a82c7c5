"""Whether numbers differ, are the same within a margin, below a limit, or what a fair model would show.

Runs share prompts and noise, so they are compared prompt by prompt; many tests at once are Holm's.
"""

import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Literal, TypedDict

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import t as student
from scipy.stats import ttest_ind

from fairbench.metrics.bias import bias

Alternative = Literal["two-sided", "greater"]
RESAMPLES = 9999
SUMS_AT_ONCE = 20_000_000
"""Of one sign pattern over one row, so that no more than some hundred megabytes are needed."""
LEVEL = 0.05
"""Of every family of tests."""
FEWEST_PROMPTS = 5
"""With fewer, nothing is said of all prompts of this kind."""


class Comparison(TypedDict):
    """What the paired test found."""

    difference: float
    """Mean over prompts of method - original."""
    p_value: float
    """Two-sided."""
    prompts: int
    """Prompts with a value in both."""


class Equivalence(TypedDict):
    """What the test of "unchanged" found."""

    difference: float
    interval: tuple[float, float]
    """The 90 % interval; "unchanged" at the 5 % level is the same as lying inside the margins."""
    margin: float
    p_value: float


def paired_permutation_test(
    original: Mapping[str, float | None], method: Mapping[str, float | None], *, seed: int = 0
) -> Comparison | None:
    """Test that swapping original and method within a prompt changes nothing, by ``mean(method - original)``.

    Parameters
    ----------
    original, method
        Prompt id -> value. Prompts that only one of them has, or without a value in one, are left out.
    seed
        Of the draws, see `sign_flip_test`.

    Returns
    -------
    The comparison; None if no prompt has a value in both.

    Examples
    --------
    Of the four sign patterns, two have a mean as far from 0:

    >>> paired_permutation_test({"nurse": 0.5, "cook": 0.75}, {"nurse": 0.25, "cook": 0.5})
    {'difference': -0.25, 'p_value': 0.5, 'prompts': 2}
    """
    shared = [(original[key], method[key]) for key in original if key in method]
    both = np.array([pair for pair in shared if None not in pair], dtype=float).reshape(-1, 2)
    change = both[:, 1] - both[:, 0]
    change = change[~np.isnan(change)]
    if not len(change):
        return None
    p_value = float(sign_flip_test(change, seed=seed))
    return {"difference": float(change.mean()), "p_value": p_value, "prompts": len(change)}


def sign_flip_test(
    differences: ArrayLike,
    *,
    alternative: Alternative = "two-sided",
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> np.ndarray:
    """Return the p-value of "swapping the two runs within a prompt changes nothing", by the mean difference.

    The share of sign patterns whose mean is at least as large. Exact, over all 2^P of them, where these are
    no more than ``resamples``. It holds its level exactly where each difference is as likely with the other
    sign (the two runs are exchangeable within a prompt, as when both are the same model); where only the
    means agree, as the number of prompts grows.

    Parameters
    ----------
    differences
        ... x P, one test per row; nan for a prompt without a value, which takes no part.
    alternative
        "two-sided", or "greater": the differences are above zero.
    resamples
        How many patterns are drawn where there are more. All rows share them.
    seed
        Of the draws.

    Returns
    -------
    ... p-values; 1 where no prompt has a value.

    Examples
    --------
    Of the eight sign patterns, two have a mean as far from 0, and one of these is above it:

    >>> float(sign_flip_test([1, 2, 3])), float(sign_flip_test([1, 2, 3], alternative="greater"))
    (0.25, 0.125)
    """
    table = np.nan_to_num(np.asarray(differences, dtype=float))
    signs, drawn = _signs(table.shape[-1], resamples, seed)
    rows = table.reshape(math.prod(table.shape[:-1]), table.shape[-1])
    parts = np.array_split(rows, max(1, len(rows) * signs.shape[1] // SUMS_AT_ONCE))
    extreme = np.concatenate([_as_extreme(part, signs, alternative) for part in parts])
    return (extreme.reshape(table.shape[:-1]) + drawn) / (signs.shape[1] + drawn)


def _as_extreme(rows: np.ndarray, signs: np.ndarray, alternative: Alternative) -> np.ndarray:
    """Return per row how many of the patterns, P x B, make a sum that is at least as large as its own."""
    observed, flipped = rows.sum(axis=-1)[:, None], rows @ signs
    if alternative == "two-sided":
        observed, flipped = abs(observed), abs(flipped)
    slack = 1e-9 * abs(rows).sum(axis=-1)[:, None]  # sums of the same numbers differ in their last digits
    return (flipped >= observed - slack).sum(axis=-1)


@cache
def _signs(prompts: int, resamples: int, seed: int) -> tuple[np.ndarray, int]:
    """Return P x B signs, and 1 where they are drawn: the pattern that was observed is then one more."""
    if 2**prompts <= resamples:
        return 1.0 - 2.0 * (np.arange(2**prompts) >> np.arange(prompts)[:, None] & 1), 0
    return np.random.default_rng(seed).choice([-1.0, 1.0], size=(prompts, resamples)), 1


def welch_test(first: ArrayLike, second: ArrayLike, *, alternative: Alternative = "two-sided") -> float:
    """Return the p-value of equal means (or of "first no larger") of unpaired prompts, by Welch's t.

    1 where one side has fewer than two values, or none of them vary and their means agree.

    Examples
    --------
    Here t is ``-sqrt(2)`` with two degrees of freedom, and p is ``1 - 1 / sqrt(2)``:

    >>> round(welch_test([0, 2], [2, 4]), 3)
    0.293
    """
    sides = [np.asarray(side, dtype=float) for side in (first, second)]
    sides = [side[~np.isnan(side)] for side in sides]
    if min(map(len, sides)) < 2:
        return 1.0
    if all(np.ptp(side) == 0 for side in sides):
        change = sides[0][0] - sides[1][0]
        return float(change <= 0 if alternative == "greater" else change == 0)
    return float(ttest_ind(*sides, equal_var=False, alternative=alternative).pvalue)


def holm(p_values: ArrayLike) -> np.ndarray:
    """Adjust a family of m p-values: ``max over the smaller p_(i) of min(1, (m - i + 1) p_(i))``.

    Rejecting where the adjusted value is at most alpha makes any false rejection at most that likely.

    References
    ----------
    Holm, "A Simple Sequentially Rejective Multiple Test Procedure", Scandinavian J. Statistics 1979.

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03]).round(3).tolist()
    [0.03, 0.06, 0.06]
    """
    values = np.asarray(p_values, dtype=float)
    order = np.argsort(values)
    stepped = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    adjusted = np.empty_like(values)
    adjusted[order] = stepped.clip(max=1)
    return adjusted


def equivalence_test(differences: ArrayLike, margin: float) -> Equivalence | None:
    """Test that a mean difference lies within ±margin: two one-sided paired t tests, the larger p-value.

    Parameters
    ----------
    differences
        One per prompt; nan is left out.
    margin
        The largest change that still counts as none, in the units of the differences.

    Returns
    -------
    What was found; None for fewer than two differences.

    References
    ----------
    Schuirmann, J. Pharmacokinetics and Biopharmaceutics 1987 (TOST).

    Examples
    --------
    Mean 0 and standard error 1: p is the chance that t with one degree of freedom exceeds 1.

    >>> round(equivalence_test([-1, 1], margin=1)["p_value"], 3)
    0.25
    """
    values = np.asarray(differences, dtype=float)
    values = values[~np.isnan(values)]
    if len(values) < 2:
        return None
    mean, error, freedom = values.mean(), values.std(ddof=1) / np.sqrt(len(values)), len(values) - 1
    room = margin - abs(mean)
    p_value = student.sf(room / error, freedom) if error > 0 else float(room <= 0)
    reach = student.ppf(0.95, freedom) * error
    return {
        "difference": float(mean),
        "interval": (float(mean - reach), float(mean + reach)),
        "margin": margin,
        "p_value": float(p_value),
    }


def floor_test(
    counts: ArrayLike, target: Sequence[float] | None = None, *, resamples: int = RESAMPLES, seed: int = 0
) -> float | None:
    """Return the p-value of "a model exactly on target", by its mean bias over prompts; one-sided.

    Each prompt's counts are then multinomial with the target's probabilities, and how often such counts have
    a mean bias at least as large is found by drawing them.

    Parameters
    ----------
    counts
        P x K images of each class; prompts without an image are left out.
    target
        K probabilities; None for uniform. For any other, the bias is that of the frequencies' deviations.
    resamples
        Draws.
    seed
        Of the draws.

    Returns
    -------
    The p-value, None without a usable image. It does not hold for images whose classes were balanced
    together: their counts vary less than multinomial ones.

    Examples
    --------
    Two images of a fair model are of the same class half the time:

    >>> round(floor_test([[2, 0]]), 1)
    0.5
    """
    table = np.asarray(counts)
    table = table[table.sum(axis=-1) > 0]
    if not len(table):
        return None
    sizes, share = table.sum(axis=-1), _share(target, table.shape[-1])
    observed = bias(table / sizes[:, None], share).mean()
    fair = _fair_biases(tuple(sizes.tolist()), share, resamples, seed)
    return float((1 + (fair >= observed - 1e-12).sum()) / (1 + resamples))


def upper_bound(
    counts: ArrayLike, target: Sequence[float] | None = None, *, confidence: float = 0.95
) -> float | None:
    """Return the one-sided upper confidence bound of the mean bias over prompts: ``m + t_{P-1} e``.

    e is the standard error over prompts, but no less than what counting alone gives a model on target: a few
    prompts that happen to agree are no proof that all of them would.

    Parameters
    ----------
    counts, target
        As in `floor_test`.
    confidence
        The probability with which the mean over all prompts of this kind is to lie below.

    Returns
    -------
    The bound; None for fewer than `FEWEST_PROMPTS` prompts with an image.

    Examples
    --------
    A bound that holds half the time is the mean itself; four prompts have none.

    >>> upper_bound([[3, 1]] * 5, confidence=0.5), upper_bound([[3, 1]] * 4)
    (0.5, None)
    """
    table = np.asarray(counts)
    table = table[table.sum(axis=-1) > 0]
    if len(table) < FEWEST_PROMPTS:
        return None
    sizes, share = table.sum(axis=-1), _share(target, table.shape[-1])
    values = bias(table / sizes[:, None], share)
    counting = _fair_biases(tuple(sizes.tolist()), share, RESAMPLES, 0).std()
    error = max(values.std(ddof=1) / np.sqrt(len(values)), counting)
    return float(values.mean() + student.ppf(confidence, len(values) - 1) * error)


def _share(target: Sequence[float] | None, classes: int) -> tuple[float, ...]:
    return tuple(np.full(classes, 1 / classes) if target is None else np.asarray(target, dtype=float))


@cache
def _fair_biases(sizes: tuple[int, ...], share: tuple[float, ...], resamples: int, seed: int) -> np.ndarray:
    """Return the mean bias of each of ``resamples`` evaluations of a model on target."""
    rng = np.random.default_rng(seed)
    total = np.zeros(resamples)
    for size in sizes:
        total += bias(rng.multinomial(size, share, size=resamples) / size, share)
    return total / len(sizes)
