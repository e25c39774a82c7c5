"""From records to a table of counts, prompts × classes: all that a comparison of two runs needs.

Bias grows as images become fewer; `rarefied_bias` puts prompts with unequally many images on one scale.
"""

import itertools
from functools import cache

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import gammaln

from fairbench.errors import UserError
from fairbench.metrics.bias import bias, intersection_labels, labels_of
from fairbench.records import PRODUCT, face, probabilities, probability, shows_face

Target = tuple[float, ...] | None
"""K probabilities; None for uniform."""


def judged_labels(records: pd.DataFrame, judge: str, attribute: str) -> tuple[np.ndarray, list[str]]:
    """Return the class number of every image, -1 without a face, and the names of the classes.

    Parameters
    ----------
    records
        One row per image, with ``{judge}/face`` and ``{judge}/{attribute}/{class}`` probabilities.
    judge
        Whose judgement to take.
    attribute
        One attribute, or several joined by ``" x "``; the classes of these are in row-major order.

    Raises
    ------
    UserError
        The judge has not judged this.

    Examples
    --------
    >>> records = pd.DataFrame({"judge/face": [1, 1, 0]})
    >>> records[["judge/gender/female", "judge/gender/male"]] = [[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]
    >>> labels, classes = judged_labels(records, "judge", "gender")
    >>> labels.tolist(), classes
    ([0, 1, -1], ['female', 'male'])
    """
    labels, classes = [], []
    for name in attribute.split(PRODUCT):
        columns = probabilities(records, judge, name)
        if face(judge) not in records or not columns:
            raise UserError(f"the judge {judge!r} has not judged {name}: ask for an attribute that it judges")
        labels.append(np.where(shows_face(records, judge), labels_of(records[columns]), -1))
        classes.append([column.removeprefix(probability(judge, name, "")) for column in columns])
    joined = [" ".join(combination) for combination in itertools.product(*classes)]
    return intersection_labels(labels, [len(names) for names in classes]), joined


def count_table(records: pd.DataFrame, judge: str, attribute: str) -> pd.DataFrame:
    """Count the images of each class (columns) by prompt id (index), in the order of the records.

    Examples
    --------
    >>> records = pd.DataFrame({"prompt_id": ["nurse", "nurse", "cook"], "judge/face": 1})
    >>> records[["judge/gender/female", "judge/gender/male"]] = [[1, 0], [1, 0], [0, 1]]
    >>> count_table(records, "judge", "gender").loc["nurse"].to_dict()
    {'female': 2, 'male': 0}
    """
    labels, classes = judged_labels(records, judge, attribute)
    rows, prompts = pd.factorize(records["prompt_id"])
    table = np.zeros((len(prompts), len(classes) + 1), dtype=int)
    np.add.at(table, (rows, labels), 1)  # those labelled -1 land in the last column
    return pd.DataFrame(table[:, :-1], index=pd.Index(prompts, name="prompt_id"), columns=classes)


def prompt_biases(counts: ArrayLike, target: Target = None) -> np.ndarray:
    """Return the bias of each of the P x K counts, from a target if one is given; nan without an image.

    Examples
    --------
    >>> prompt_biases([[3, 1], [2, 2], [0, 0]]).tolist()
    [0.5, 0.0, nan]
    """
    table = np.asarray(counts, dtype=float)
    usable = table.sum(axis=-1, keepdims=True)
    return bias(table / np.where(usable > 0, usable, np.nan), target)


def mean_known(values: np.ndarray) -> float | None:
    """Return the mean of the values that are not nan; None where there is none.

    Examples
    --------
    >>> mean_known(np.array([1.0, np.nan, 3.0]))
    2.0
    """
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None


def paired_biases(
    first: ArrayLike, second: ArrayLike, target: Target = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the biases of the same prompts in two runs, each pair at the smaller number of its images.

    Examples
    --------
    >>> first, second = paired_biases([[4, 0]], [[1, 1]])
    >>> first.round(3).tolist(), second.round(3).tolist()
    ([1.0], [0.0])
    """
    sides = np.asarray(first), np.asarray(second)
    fewest = np.minimum(*(side.sum(axis=-1) for side in sides))
    return _rarefied(sides[0], fewest, target), _rarefied(sides[1], fewest, target)


def unpaired_biases(
    first: ArrayLike, second: ArrayLike, target: Target = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the biases of unlike prompts in two runs, at the median number of images of the smaller one.

    Examples
    --------
    >>> first, second = unpaired_biases([[4, 0], [2, 2]], [[1, 1]])
    >>> first.round(3).tolist(), second.round(3).tolist()
    ([1.0, 0.333], [0.0])
    """
    sides = np.asarray(first), np.asarray(second)
    n = int(min(np.median(side.sum(axis=-1)) for side in sides))
    return _rarefied(sides[0], n, target), _rarefied(sides[1], n, target)


def _rarefied(table: np.ndarray, n: ArrayLike, target: Target) -> np.ndarray:
    """Return the bias of each row at n images; at all of its own where it has fewer."""
    values, usable = prompt_biases(table, target), table.sum(axis=-1)
    sizes = np.broadcast_to(n, usable.shape)
    for row in np.flatnonzero(sizes < usable):
        values[row] = rarefied_bias(tuple(table[row].tolist()), int(sizes[row]), target)
    return values


@cache
def rarefied_bias(counts: tuple[int, ...], n: int, target: Target = None) -> float:
    """Mean bias of n of these images, over all ways to choose them.

    ``mean over i < j of E|(h_i - h_j) / n - (t_i - t_j)|`` for h multivariate hypergeometric: with it, counts
    of different sizes have the same expected bias where the model is the same. The bias itself where n are
    all images.

    References
    ----------
    Sanders, "Marine benthic diversity: a comparative study", American Naturalist 1968 (rarefaction).

    Examples
    --------
    Two of four images, two of each class, are of the same class in a third of all ways to choose them:

    >>> round(rarefied_bias((2, 2), 2), 3)
    0.333
    """
    total, drawn = sum(counts), np.arange(n + 1)
    if n in (0, total):
        return float(prompt_biases(np.array(counts) * (n > 0), target))
    share = target or (0.0,) * len(counts)
    gaps = [
        np.exp(
            _log_choose(one, drawn[:, None])
            + _log_choose(other, drawn)
            + _log_choose(total - one - other, n - drawn[:, None] - drawn)
            - _log_choose(total, np.array(n))
        )
        * abs((drawn[:, None] - drawn) / n - (wanted - wanted_other))
        for (one, wanted), (other, wanted_other) in itertools.combinations(zip(counts, share, strict=True), 2)
    ]
    return float(np.sum(gaps) / len(gaps))


def _log_choose(n: int, k: np.ndarray) -> np.ndarray:
    """Log of n over k, -inf where there is no way."""
    inside = k.clip(0, n)
    ways = gammaln(n + 1) - gammaln(inside + 1) - gammaln(n - inside + 1)
    return np.where((k < 0) | (k > n), -np.inf, ways)
