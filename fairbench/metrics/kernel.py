"""Squared maximum mean discrepancy of two sets of features, with an interval over prompts and with weights.

All that is needed afterwards are sums of the kernel over pairs of prompts, so no kernel matrix is kept.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import t

ROWS = 2048
"""Of the kernel matrix that are held at once."""


@dataclass(frozen=True)
class Features:
    """N x D features with the prompt (0 to P - 1) and the weight of every row.

    Examples
    --------
    >>> Features.of([[0.5], [0.5], [0.5]], prompts=[0, 1, 1]).per_prompt(2).tolist()
    [1.0, 2.0]
    """

    values: np.ndarray
    prompts: np.ndarray
    weights: np.ndarray

    @classmethod
    def of(cls, values: ArrayLike, prompts: ArrayLike, weights: ArrayLike | None = None) -> "Features":
        """Take what has these shapes; equal weights unless given."""
        table = np.asarray(values, dtype=float)
        given = np.ones(len(table)) if weights is None else np.asarray(weights, dtype=float)
        return cls(table, np.asarray(prompts, dtype=int), given)

    def per_prompt(self, count: int) -> np.ndarray:
        """Return P sums of weights."""
        return np.bincount(self.prompts, self.weights, minlength=count)


def kid_interval(
    generated: Features, reference: Features, *, confidence: float = 0.95
) -> tuple[float, tuple[float, float] | None]:
    """KID of all pairs, and its interval by leaving out one prompt at a time.

    ``MMD^2 = E k(x, x') + E k(y, y') - 2 E k(x, y)`` with ``k(x, y) = (x.y / D + 1)^3``, never a row with
    itself; weighted rows count as ``w w' k / sum of w w'``. With the P values theta_j that leave out prompt
    j on both sides, ``se^2 = (P - 1) / P sum_j (theta_j - mean)^2``, and the interval is Student's.

    Parameters
    ----------
    generated, reference
        With the prompts numbered alike.
    confidence
        Of the interval.

    Returns
    -------
    The value, nan where a side has fewer than two rows; and (low, high), None for fewer than two prompts.

    References
    ----------
    Binkowski et al., "Demystifying MMD GANs", ICLR 2018; Efron and Stein, "The Jackknife Estimate of
    Variance", Annals of Statistics 1981.

    Examples
    --------
    With one feature, 0 on one side and 1 on the other, this is ``1 + 2^3 - 2``:

    >>> value, interval = kid_interval(Features.of([[0], [0]], [0, 0]), Features.of([[1], [1]], [0, 0]))
    >>> round(value, 3), interval
    (7.0, None)
    """
    present = np.union1d(generated.prompts, reference.prompts)
    generated, reference = (
        replace(side, prompts=np.searchsorted(present, side.prompts)) for side in (generated, reference)
    )
    count = len(present)
    value, without = np.zeros(()), np.zeros(count)
    for a, b, factor in ((generated, generated, 1), (reference, reference, 1), (generated, reference, -2)):
        sums, norms = _sums(a, b, count), _norms(a, b, count)
        value = value + factor * _ratio(sums.sum(), norms.sum())
        without = without + factor * _ratio(_leaving_out(sums), _leaving_out(norms))
    if count < 2 or not np.isfinite(without).all():
        return float(value), None
    error = np.sqrt((count - 1) / count * ((without - without.mean()) ** 2).sum())
    reach = error * t.ppf((1 + confidence) / 2, count - 1)
    return float(value), (float(value - reach), float(value + reach))


def _sums(a: Features, b: Features, count: int) -> np.ndarray:
    """Return P x P sums of w k w' over the rows of two prompts, without a row and itself."""
    sums, columns = np.zeros((count, count)), np.eye(count)[b.prompts] * b.weights[:, None]
    for start in range(0, len(a.values), ROWS):
        rows = slice(start, start + ROWS)
        base = a.values[rows] @ b.values.T / b.values.shape[1] + 1
        kernel = base * base * base  # much faster than a power
        if a is b:
            kernel[np.arange(len(kernel)), np.arange(start, start + len(kernel))] = 0
        np.add.at(sums, a.prompts[rows], a.weights[rows, None] * (kernel @ columns))
    return sums


def _norms(a: Features, b: Features, count: int) -> np.ndarray:
    norms = np.outer(a.per_prompt(count), b.per_prompt(count))
    return norms - np.diag(np.bincount(a.prompts, a.weights**2, minlength=count)) if a is b else norms


def _leaving_out(sums: np.ndarray) -> np.ndarray:
    return sums.sum() - sums.sum(axis=0) - sums.sum(axis=1) + np.diag(sums)


def _ratio(sums: np.ndarray, norms: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(norms > 1e-12, sums / norms, np.nan)


def matching_weights(generated: ArrayLike, reference: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Weights that give the reference the strata of the generated images: ``w = n_generated / n_reference``.

    A stratum is a prompt and a class. One that the reference does not show cannot be compared: its generated
    images are left out.

    Parameters
    ----------
    generated, reference
        N and M stratum numbers; -1 for an image that is in none.

    Returns
    -------
    N booleans, which generated images are compared; and M weights, which sum to their number.

    Examples
    --------
    >>> compared, weights = matching_weights([0, 0, 1], [0, 0, 0, 0, 2])
    >>> compared.tolist(), weights.tolist()
    ([True, True, False], [0.5, 0.5, 0.5, 0.5, 0.0])
    """
    ours, theirs = np.asarray(generated, dtype=int), np.asarray(reference, dtype=int)
    size = int(max(ours.max(initial=0), theirs.max(initial=0))) + 1
    wanted, shown = (np.bincount(s[s >= 0], minlength=size) for s in (ours, theirs))
    compared = (ours >= 0) & (shown[ours] > 0)
    weights = np.where(theirs >= 0, wanted[theirs] / np.maximum(shown[theirs], 1), 0.0)
    return compared, weights
