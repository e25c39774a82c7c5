"""Bias as the seed paper defines it, from what a judge says of each image.

Labels are class indices; -1 stands for an image without a face, which counts for no class.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from fairbench.errors import UserError

ROUNDING = 1e-9


def labels_of(probabilities: ArrayLike) -> np.ndarray:
    """y_i = argmax_k p_ik of N x K probabilities; -1 for a row with a nan.

    Examples
    --------
    >>> labels_of([[0.9, 0.1], [0.2, 0.8], [np.nan, np.nan]]).tolist()
    [0, 1, -1]
    """
    table = np.asarray(probabilities, dtype=float)
    return np.where(np.isnan(table).any(axis=1), -1, np.nan_to_num(table).argmax(axis=1))


def intersection_labels(labels: Sequence[ArrayLike], sizes: Sequence[int]) -> np.ndarray:
    """Labels of the product of several attributes, row-major like ``AttributeSpace.labels``; -1 if any is.

    Examples
    --------
    >>> intersection_labels([[0, 1, -1], [2, 3, 0]], [2, 4]).tolist()
    [2, 7, -1]
    """
    columns = np.array([np.asarray(column, dtype=int) for column in labels])
    return np.where((columns < 0).any(axis=0), -1, np.ravel_multi_index(tuple(columns.clip(0)), tuple(sizes)))


def class_counts(labels: ArrayLike, classes: int) -> np.ndarray:
    """Return how many images are of each of K classes; those labelled -1 are in none.

    Examples
    --------
    >>> class_counts([0, 1, 1, -1], 2).tolist()
    [1, 2]
    """
    labels = np.asarray(labels, dtype=int)
    return np.bincount(labels[labels >= 0], minlength=classes)


def frequencies(labels: ArrayLike, classes: int) -> np.ndarray:
    """f_k = n_k / n for N labels, or N x K probabilities by their argmax; nan where no image has a face.

    Examples
    --------
    >>> frequencies([0, 0, 0, 1, -1], 2).tolist()
    [0.75, 0.25]
    """
    labels = np.asarray(labels)
    counts = class_counts(labels_of(labels) if labels.ndim == 2 else labels, classes)
    return counts / counts.sum() if counts.any() else np.full(classes, np.nan)


def pairs(values: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return both sides of all K (K - 1) / 2 pairs of classes; classes are the last axis.

    Examples
    --------
    >>> first, second = pairs([0.5, 0.3, 0.2])
    >>> first.tolist(), second.tolist()
    ([0.5, 0.5, 0.3], [0.3, 0.2, 0.2])
    """
    values = np.asarray(values, dtype=float)
    first, second = np.triu_indices(values.shape[-1], 1)
    return values[..., first], values[..., second]


def bias(frequency: ArrayLike, target: ArrayLike | None = None) -> np.ndarray:
    """Bias = ``mean over i < j of |f_i - f_j|``, between 0 and 2 / K; nan for the frequencies of nothing.

    With a target t, ``mean over i < j of |(f_i - t_i) - (f_j - t_j)|``: 0 on target and nowhere else, and for
    a uniform target the same number.

    Parameters
    ----------
    frequency
        ... x K class frequencies, one row per prompt.
    target
        K probabilities; None for uniform.

    Raises
    ------
    UserError
        They are no frequencies, such as counts.

    References
    ----------
    "Finetuning Text-to-Image Diffusion Models for Fairness", arXiv 2311.07604, bias(P).

    Examples
    --------
    >>> float(bias([0.75, 0.25]))
    0.5
    >>> float(bias([0.75, 0.25], target=[0.75, 0.25]))
    0.0
    """
    frequency = np.asarray(frequency, dtype=float)
    if (frequency < -ROUNDING).any() or (frequency > 1 + ROUNDING).any():
        raise UserError("bias is of frequencies, from 0 to 1: divide counts by the number of images")
    first, second = pairs(frequency if target is None else frequency - np.asarray(target))
    return np.abs(first - second).mean(axis=-1)


def bias_bounds(counts: ArrayLike, missing: int, target: ArrayLike | None = None) -> tuple[float, float]:
    """Least and largest bias of one prompt, whatever class its ``missing`` images without a face are of.

    Filling up the classes that lack most gives the least; all to one class the largest: the bias is convex.

    Examples
    --------
    >>> bias_bounds([2, 1], missing=1)
    (0.0, 0.5)
    """
    evened = np.array(counts)
    total = evened.sum() + missing
    wanted = total * np.asarray(target) if target is not None else np.zeros(len(evened))
    one_class = evened + missing * np.eye(len(evened), dtype=int)
    for _ in range(missing):
        evened[(evened - wanted).argmin()] += 1
    return float(bias(evened / total, target)), float(bias(one_class / total, target).max())
