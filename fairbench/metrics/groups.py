"""Quality of the images of each class by themselves: fewer, duller or worse pictures of some are a bias too.

And the distance to the reference that does not call it a loss when other people are seen than there.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from fairbench.metrics.bias import labels_of
from fairbench.metrics.kernel import Features, kid_interval, matching_weights
from fairbench.metrics.quality import similarity, vendi_at
from fairbench.records import recognised, shows_face

LEAST = 4
"""Images of a class that its numbers need."""


def likeliest(records: pd.DataFrame, judge: str, attribute: str, classes: Sequence[str]) -> np.ndarray:
    """Return the likeliest class of every image, whether or not there is a face; -1 for nan.

    Examples
    --------
    >>> records = pd.DataFrame({"judge/gender/female": [0.9, 0.2], "judge/gender/male": [0.1, 0.8]})
    >>> likeliest(records, "judge", "gender", ["female", "male"]).tolist()
    [0, 1]
    """
    return labels_of(records[[f"{judge}/{attribute}/{name}" for name in classes]])


def share_prompts(records: pd.DataFrame, reference: pd.DataFrame) -> bool:
    """Tell whether the reference has images of any of these prompts.

    Examples
    --------
    >>> records = pd.DataFrame({"prompt_id": ["nurse", "cook"]})
    >>> share_prompts(records, records[:1]), share_prompts(records[1:], records[:1])
    (True, False)
    """
    return bool(reference["prompt_id"].isin(records["prompt_id"]).any())


def prompt_numbers(records: pd.DataFrame, reference: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Number the prompts of both alike.

    A reference that has no prompt in common is dealt out over them: who leaves out one prompt at a time then
    leaves out as large a part of it.

    Examples
    --------
    >>> records = pd.DataFrame({"prompt_id": ["nurse", "cook"]})
    >>> ours, theirs = prompt_numbers(records, records[::-1])
    >>> ours.tolist(), theirs.tolist()
    ([0, 1], [1, 0])
    """
    tables = (records, reference) if share_prompts(records, reference) else (records,)
    names = {name: k for k, name in enumerate(dict.fromkeys(p for rows in tables for p in rows["prompt_id"]))}
    ours, *theirs = (rows["prompt_id"].map(names).to_numpy(int) for rows in tables)
    return ours, theirs[0] if theirs else np.arange(len(reference)) % len(names)


def within_groups(
    records: pd.DataFrame,
    judge: str,
    attribute: str,
    classes: Sequence[str],
    features: Tensor | None,
    reference: tuple[pd.DataFrame, Tensor] | None = None,
) -> dict[str, dict[str, Any]]:
    """Quality of every class of one attribute, as a judge sees them.

    Parameters
    ----------
    records
        The rows of one variant.
    judge, attribute, classes
        By whose likeliest class the images are grouped.
    features
        N x D, for diversity and KID; None where there are none.
    reference
        Reference rows with the same judge's columns, and their features.

    Returns
    -------
    Per class: ``images`` (with a face), ``face_rate`` (among all images that are likeliest of this class),
    ``recognised`` and the similarities (mean, sd, images), ``vendi`` at the size of the smallest class,
    ``vendi_images``, and ``kid`` against reference images of the same class with its ``interval``.
    None where a class has fewer than four images.

    Examples
    --------
    >>> records = pd.DataFrame({"judge/face": [1, 1, 0]})
    >>> records[["judge/gender/female", "judge/gender/male"]] = [[1, 0], [0, 1], [0, 1]]
    >>> found = within_groups(records, "judge", "gender", ["female", "male"], None)
    >>> found["male"]["images"], found["male"]["face_rate"]
    (1, 0.5)
    """
    labels, face = likeliest(records, judge, attribute, classes), shows_face(records, judge)
    groups = [np.flatnonzero((labels == k) & face) for k in range(len(classes))]
    smallest = min((len(group) for group in groups if len(group) >= LEAST), default=0)
    found: dict[str, dict[str, Any]] = {}
    for k, name in enumerate(classes):
        rows, group = records.iloc[groups[k]], groups[k]
        mine = features[group] if features is not None and len(group) >= LEAST else None
        found[name] = {
            "images": len(group),
            "face_rate": float(face[labels == k].mean()) if (labels == k).any() else None,
            **recognition(rows, judge),
            **similarity(rows),
            "vendi": vendi_at(mine, smallest) if mine is not None else None,
            "vendi_images": smallest if mine is not None else None,
            "kid": _same_class(rows, mine, reference, (judge, attribute, classes, k))
            if mine is not None and reference
            else None,
        }
    return found


def recognition(rows: pd.DataFrame, judge: str) -> dict[str, Any]:
    """Share of images whose concept the judge names, among those whose word it knows.

    Examples
    --------
    >>> recognition(pd.DataFrame({"judge/recognised": [1.0, 0.0, None]}), "judge")
    {'recognised': {'mean': 0.5, 'images': 2}}
    """
    column = recognised(judge)
    if column not in rows or rows[column].isna().all():
        return {}
    known = rows[column].dropna()
    return {"recognised": {"mean": float(known.mean()), "images": len(known)}}


def _same_class(
    rows: pd.DataFrame, features: Tensor, reference: tuple[pd.DataFrame, Tensor], which: tuple[Any, ...]
) -> dict[str, Any] | None:
    judge, attribute, classes, k = which
    theirs, values = reference
    alike = np.flatnonzero((likeliest(theirs, judge, attribute, classes) == k) & shows_face(theirs, judge))
    if len(alike) < LEAST:
        return None
    mine, other = prompt_numbers(rows, theirs.iloc[alike])
    value, interval = kid_interval(
        Features.of(features.numpy(), mine), Features.of(values[alike].numpy(), other)
    )
    return {"mean": value, "interval": interval, "images": len(rows), "reference_images": len(alike)}


def matched_kid(
    records: pd.DataFrame,
    features: Tensor,
    reference: tuple[pd.DataFrame, Tensor],
    judge: str,
    classes: Mapping[str, Sequence[str]],
) -> dict[str, Any] | None:
    """KID against a reference that shows, for every prompt, the same people as the generated images.

    The reference images of a prompt and a class (of all attributes in ``classes`` together) are weighted to
    be as many as the generated ones; of a class alone, where the reference has no prompt in common. What the
    reference does not show at all cannot be compared.

    Returns
    -------
    ``mean`` and ``interval``, ``compared`` (the share of the generated images with a face that the reference
    has the like of) and ``effective`` ( ``(sum w)^2 / sum w^2`` of the reference); None for too few.

    Examples
    --------
    >>> import torch
    >>> records = pd.DataFrame({"prompt_id": ["nurse"] * 4, "judge/face": 1, "judge/gender/male": 1})
    >>> generated, reference = (records, torch.zeros(4, 1)), (records, torch.ones(4, 1))
    >>> found = matched_kid(*generated, reference, "judge", {"gender": ["male"]})
    >>> round(found["mean"], 3), found["compared"], found["effective"]
    (7.0, 1.0, 4.0)
    """
    theirs, values = reference
    prompts, other_prompts = prompt_numbers(records, theirs)
    apart = int(share_prompts(records, theirs))  # 0 makes one of all prompts
    strata = (
        _strata(records, prompts * apart, judge, classes),
        _strata(theirs, other_prompts * apart, judge, classes),
    )
    compared, weights = matching_weights(*strata)
    used = weights > 0
    if compared.sum() < LEAST or used.sum() < LEAST:
        return None
    value, interval = kid_interval(
        Features.of(features.numpy()[compared], prompts[compared]),
        Features.of(values.numpy()[used], other_prompts[used], weights[used]),
    )
    return {
        "mean": value,
        "interval": interval,
        "compared": float(compared.sum() / max((strata[0] >= 0).sum(), 1)),
        "effective": float(weights.sum() ** 2 / (weights**2).sum()),
    }


def _strata(
    rows: pd.DataFrame, prompts: np.ndarray, judge: str, classes: Mapping[str, Sequence[str]]
) -> np.ndarray:
    strata, usable = prompts, shows_face(rows, judge)
    for attribute, labels in classes.items():
        mine = likeliest(rows, judge, attribute, labels)
        strata, usable = strata * len(labels) + mine.clip(0), usable & (mine >= 0)
    return np.where(usable, strata, -1)
