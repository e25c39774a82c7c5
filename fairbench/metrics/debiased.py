"""The gap between classes without the part that the small number of images adds to it.

A fair model's measured bias is above zero by chance; its squared gap, corrected here, is zero on average.
"""

import numpy as np
from numpy.typing import ArrayLike


def squared_gap(
    counts: ArrayLike, target: ArrayLike | None = None, inverse: ArrayLike | None = None
) -> np.ndarray:
    """Unbiased estimate of g^2 = ``mean over i < j of ((p_i - t_i) - (p_j - t_j))^2`` for every prompt.

    As pairs of deviations that sum to zero, ``g^2 = c |p - t|^2`` with c = 2 / (K - 1). The counts are
    multinomial, so ``|f - t|^2`` exceeds this by ``(1 - |p|^2) / n`` on average, which is subtracted:
    ``c (|f - t|^2 - (1 - |f|^2) / (n - 1))``. Two classes: ``(n d^2 - 1) / (n - 1)``, d = f_0 - f_1. May be
    negative. With an ``inverse`` A, A f stands for f, and the noise is ``sum_k f_k |a_k|^2 - |A f|^2``.

    Parameters
    ----------
    counts
        ... x K images of each class, one row per prompt.
    target
        K probabilities t; None for uniform.
    inverse
        K x K matrix that turns frequencies of what a judge says into those of what is there, see
        `fairbench.judges.error_rates.inverse_rates`; None for a judge without errors.

    Returns
    -------
    One estimate per row; nan in a row with fewer than two images.

    Examples
    --------
    With d = 1 and with d = 0:

    >>> squared_gap([[4, 0], [2, 2]]).round(3).tolist()
    [1.0, -0.333]
    """
    counts = np.asarray(counts, dtype=float)
    classes = counts.shape[-1]
    n = counts.sum(axis=-1)
    n = np.where(n < 2, np.nan, n)
    matrix = np.eye(classes) if inverse is None else np.asarray(inverse)
    frequency = counts / n[..., None]
    shares = frequency @ matrix.T
    noise = frequency @ (matrix**2).sum(axis=0) - (shares**2).sum(axis=-1)
    distance = ((shares - uniform_or(target, classes)) ** 2).sum(axis=-1)
    return 2 / (classes - 1) * (distance - noise / (n - 1))


def sampling_variance(
    n: ArrayLike, target: ArrayLike, inverse: ArrayLike | None = None, square: ArrayLike = 0.0
) -> np.ndarray:
    """Variance of `squared_gap` by counting: ``2 c^2 tr(V^2) / (n (n - 1)) + 4 c g^2 tr(V) / ((K - 1) n)``.

    V is `image_covariance`. Exact for a model on target, g^2 = ``square`` = 0; near it, for deviations that
    point nowhere in particular.

    Examples
    --------
    Two images of a fair model have the squared gap 1 or -1, equally often:

    >>> round(float(sampling_variance(2, [0.5, 0.5])), 3)
    1.0
    """
    n = np.asarray(n, dtype=float)
    covariance = image_covariance(target, inverse)
    scale = 2 / (len(covariance) - 1)
    fixed = 2 * scale**2 * np.trace(covariance @ covariance) / (n * (n - 1))
    return fixed + 2 * scale**2 * np.trace(covariance) / n * square


def image_covariance(target: ArrayLike, inverse: ArrayLike | None = None) -> np.ndarray:
    """V = ``A (diag(q) - q q^T) A^T``: covariance of one image's class counted through A, model on target.

    q = A^-1 t are the frequencies of what the judge then says.

    Examples
    --------
    >>> image_covariance([0.5, 0.5]).tolist()
    [[0.25, -0.25], [-0.25, 0.25]]
    """
    target = np.asarray(target, dtype=float)
    matrix = np.eye(len(target)) if inverse is None else np.asarray(inverse)
    said = np.linalg.solve(matrix, target)
    return matrix @ (np.diag(said) - np.outer(said, said)) @ matrix.T


def largest_gap(target: ArrayLike) -> float:
    """Return g of always drawing the class farthest from the target; ``sqrt(2 / K)`` for a uniform one.

    Examples
    --------
    >>> round(largest_gap([0.5, 0.5]), 3)
    1.0
    """
    target = np.asarray(target, dtype=float)
    corners = ((np.eye(len(target)) - target) ** 2).sum(axis=1)
    return float(np.sqrt(2 / (len(target) - 1) * corners.max()))


def uniform_or(target: ArrayLike | None, classes: int) -> np.ndarray:
    """Return the target as an array, or 1 / K for every class.

    Examples
    --------
    >>> uniform_or(None, 4).tolist()
    [0.25, 0.25, 0.25, 0.25]
    """
    return np.full(classes, 1 / classes) if target is None else np.asarray(target, dtype=float)
