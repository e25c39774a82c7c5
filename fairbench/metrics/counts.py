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
from fairbench.metrics.summary import FACE_THRESHOLD

PRODUCT = " x "
"""Joins the attributes of an intersection: ``"gender x race"``."""


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
    """
    labels, classes = [], []
    for name in attribute.split(PRODUCT):
        prefix = f"{judge}/{name}/"
        columns = [str(column) for column in records if str(column).startswith(prefix)]
        if f"{judge}/face" not in records or not columns:
            raise UserError(f"the judge {judge!r} has not judged {name}: ask for an attribute that it judges")
        seen = (records[f"{judge}/face"] >= FACE_THRESHOLD).to_numpy()
        labels.append(np.where(seen, labels_of(records[columns]), -1))
        classes.append([column.removeprefix(prefix) for column in columns])
    joined = [" ".join(combination) for combination in itertools.product(*classes)]
    return intersection_labels(labels, [len(names) for names in classes]), joined


def count_table(records: pd.DataFrame, judge: str, attribute: str) -> pd.DataFrame:
    """Count the images of each class (columns) by prompt id (index), in the order of the records."""
    labels, classes = judged_labels(records, judge, attribute)
    rows, prompts = pd.factorize(records["prompt_id"])
    table = np.zeros((len(prompts), len(classes) + 1), dtype=int)
    np.add.at(table, (rows, labels), 1)  # those labelled -1 land in the last column
    return pd.DataFrame(table[:, :-1], index=pd.Index(prompts, name="prompt_id"), columns=classes)


def prompt_biases(counts: ArrayLike) -> np.ndarray:
    """Return the bias of each of the P x K counts; nan for a prompt without a usable image."""
    table = np.asarray(counts, dtype=float)
    usable = table.sum(axis=-1, keepdims=True)
    return bias(table / np.where(usable > 0, usable, np.nan))


def paired_biases(first: ArrayLike, second: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return the biases of the same prompts in two runs, each pair at the smaller number of its images."""
    sides = np.asarray(first), np.asarray(second)
    fewest = np.minimum(*(side.sum(axis=-1) for side in sides))
    one, other = (
        [rarefied_bias(tuple(row), int(n)) for row, n in zip(side.tolist(), fewest, strict=True)]
        for side in sides
    )
    return np.array(one), np.array(other)


@cache
def rarefied_bias(counts: tuple[int, ...], n: int) -> float:
    """Mean bias of n of these images, over all ways to choose them.

    ``mean over i < j of E|h_i - h_j| / n`` for h multivariate hypergeometric: with it, counts of different
    sizes have the same expected bias where the model is the same. The bias itself where n are all images.

    References
    ----------
    Sanders, "Marine benthic diversity: a comparative study", American Naturalist 1968 (rarefaction).
    """
    total, drawn = sum(counts), np.arange(n + 1)
    if n == total:
        return float(prompt_biases(counts))
    if n == 0:
        return float("nan")
    gaps = [
        np.exp(
            _log_choose(one, drawn[:, None])
            + _log_choose(other, drawn)
            + _log_choose(total - one - other, n - drawn[:, None] - drawn)
            - _log_choose(total, np.array(n))
        )
        * abs(drawn[:, None] - drawn)
        for one, other in itertools.combinations(counts, 2)
    ]
    return float(np.sum(gaps) / len(gaps) / n)


def _log_choose(n: int, k: np.ndarray) -> np.ndarray:
    """Log of n over k, -inf where there is no way."""
    inside = k.clip(0, n)
    ways = gammaln(n + 1) - gammaln(inside + 1) - gammaln(n - inside + 1)
    return np.where((k < 0) | (k > n), -np.inf, ways)
