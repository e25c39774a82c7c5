"""From records to the numbers of one variant: bias per attribute and intersection, and what it is worth.

Beside every mean stand the images behind it, the faces missing, the noise floor and an interval over prompts.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from fairbench.errors import UserError
from fairbench.metrics.bias import bias, bias_bounds, class_counts
from fairbench.metrics.counts import judged_labels
from fairbench.metrics.debiased import uniform_or
from fairbench.metrics.floor import minimum_detectable_gap, noise_floor
from fairbench.metrics.gap import gap_estimate
from fairbench.metrics.intervals import bounds_interval, mean_interval, t_interval
from fairbench.metrics.ordinal import ORDINAL, transport_to_target
from fairbench.records import PRODUCT


def summarise(
    records: pd.DataFrame,
    judge: str,
    space_names: Sequence[str],
    *,
    target: Mapping[str, ArrayLike] | None = None,
    confusion: Mapping[str, ArrayLike] | None = None,
) -> dict[str, dict[str, Any]]:
    """Summarise one variant: a mapping, ready for JSON, from each attribute and from their intersection.

    Parameters
    ----------
    records
        The rows of one variant, one per image: ``prompt_id``, ``prompt``, ``{judge}/face`` and
        ``{judge}/{attribute}/{class}`` probabilities.
    judge
        Whose judgements to count.
    space_names
        The attributes. Their intersection is named ``"gender x race"``; its classes are in row-major order.
    target
        Attribute -> K probabilities that bias is measured from; uniform, as in the paper, for those left out.
        That of the intersection is the product, unless it is given by its own name.
    confusion
        Attribute, or intersection by its name, -> K x K counts of the judge's answers on labelled images,
        row = truth. Without one, nothing is corrected.

    Returns
    -------
    For each: the ``target`` (None if uniform), ``bias_mean`` and ``bias_sd`` (sample standard deviation) over
    prompts, the ``interval`` (bootstrap) and ``t_interval`` of the mean, its ``bounds`` whatever the images
    without a face are, with ``bounds_interval``, the noise ``floor`` and the ``minimum_detectable`` gap at
    the images used, the ``debiased`` gap with ``debiased_signed`` and ``debiased_interval``, the same
    ``corrected`` for errors of the judge (``gap``, ``signed``, ``square``, ``interval``), all of these
    measured from the target, for an attribute in order its ``transport`` to the target (``mean``,
    ``interval``), ``prompts``, ``prompts_without_value``, ``images``, ``usable``, ``face_rate``, and
    ``per_prompt``: ``prompt_id``, ``prompt``, ``images``, ``usable``, ``counts`` of each class, ``bias`` and
    its ``bounds``. A prompt without a usable image has the bias None; so has any number that cannot be given.

    Raises
    ------
    UserError
        The records have no judgement by this judge of an attribute, a target or confusion matrix does not fit
        its classes, or the confusion matrix cannot be inverted.

    Examples
    --------
    >>> records = pd.DataFrame({"prompt_id": "nurse", "prompt": "a nurse", "judge/face": [1, 1, 1, 1]})
    >>> records[["judge/gender/female", "judge/gender/male"]] = [[1, 0], [1, 0], [1, 0], [0, 1]]
    >>> summarise(records, "judge", ["gender"])["gender"]["bias_mean"]
    0.5
    """
    product = PRODUCT.join(space_names)
    judged = {name: judged_labels(records, judge, name) for name in (*space_names, product)}
    targets, tables = dict(target or {}), dict(confusion or {})
    if product not in targets and any(name in targets for name in space_names):
        parts = (
            np.asarray(targets.get(name, uniform_or(None, len(judged[name][1])))) for name in space_names
        )
        targets[product] = functools.reduce(lambda one, other: np.outer(one, other).ravel(), parts)
    found = {}
    for name, (labels, classes) in judged.items():
        wanted, table = _checked(name, len(classes), targets.get(name), tables.get(name))
        found[name] = _summary(records, labels, classes, wanted, table)
        found[name]["transport"] = _transport(found[name], wanted) if name in ORDINAL else None
    return found


def _checked(
    name: str, classes: int, target: ArrayLike | None, confusion: ArrayLike | None
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Return target and confusion matrix as arrays of the right shape; a uniform target is None."""
    wanted = None if target is None else np.asarray(target, dtype=float)
    table = None if confusion is None else np.asarray(confusion, dtype=float)
    if wanted is not None and (wanted.shape != (classes,) or not np.isclose(wanted.sum(), 1)):
        raise UserError(f"the target of {name} must be {classes} probabilities that sum to 1")
    if table is not None and table.shape != (classes, classes):
        raise UserError(f"the confusion matrix of {name} must be {classes} x {classes} counts, row = truth")
    return None if wanted is None or np.allclose(wanted, 1 / classes) else wanted, table


def _summary(
    records: pd.DataFrame,
    labels: np.ndarray,
    classes: Sequence[str],
    target: np.ndarray | None,
    confusion: np.ndarray | None,
) -> dict[str, Any]:
    groups = records.reset_index(drop=True).groupby("prompt_id", sort=False)
    prompts = [_prompt(rows, labels[rows.index], classes, target) for _, rows in groups]
    values = [prompt["bias"] for prompt in prompts if prompt["bias"] is not None]
    bounds = [prompt["bounds"] for prompt in prompts]
    counts = _counts(prompts, len(classes))
    used = counts.sum(axis=1)
    gap, corrected = (
        gap_estimate(counts, target),
        None if confusion is None else gap_estimate(counts, target, confusion),
    )
    images, usable = len(labels), int(used.sum())
    return {
        "target": None if target is None else target.tolist(),
        "bias_mean": float(np.mean(values)) if values else None,
        "bias_sd": float(np.std(values, ddof=1)) if len(values) > 1 else None,
        "interval": _listed(mean_interval(values)),
        "t_interval": _listed(t_interval(values)),
        "bounds": np.mean(bounds, axis=0).tolist() if prompts else None,
        "bounds_interval": _listed(bounds_interval(bounds)),
        "debiased": gap["gap"] if gap else None,
        "debiased_signed": gap["signed"] if gap else None,
        "debiased_interval": _listed(gap["interval"]) if gap else None,
        "corrected": corrected and {**corrected, "interval": _listed(corrected["interval"])},
        "floor": noise_floor(used, len(classes), target),
        "minimum_detectable": minimum_detectable_gap(used, len(classes), target),
        "prompts": len(prompts),
        "prompts_without_value": len(prompts) - len(values),
        "images": images,
        "usable": usable,
        "face_rate": usable / images if images else None,
        "per_prompt": prompts,
    }


def _transport(summary: Mapping[str, Any], target: np.ndarray | None) -> dict[str, Any] | None:
    """Return how many classes an image has to be moved on average, for classes in order."""
    counts = _counts([prompt for prompt in summary["per_prompt"] if prompt["usable"]], 0)
    if not len(counts):
        return None
    values = transport_to_target(counts / counts.sum(axis=1, keepdims=True), target)
    return {"mean": float(values.mean()), "interval": _listed(mean_interval(values))}


def _counts(prompts: Sequence[Mapping[str, Any]], classes: int) -> np.ndarray:
    """P x K images of each class."""
    if not prompts:
        return np.zeros((0, classes))
    return np.array([list(prompt["counts"].values()) for prompt in prompts], dtype=float)


def _listed(interval: tuple[float, float] | None) -> list[float] | None:
    return None if interval is None else list(interval)


def _prompt(
    rows: pd.DataFrame, labels: np.ndarray, classes: Sequence[str], target: np.ndarray | None
) -> dict[str, Any]:
    counts = class_counts(labels, len(classes))
    usable = int(counts.sum())
    return {
        "prompt_id": str(rows["prompt_id"].iloc[0]),
        "prompt": str(rows["prompt"].iloc[0]),
        "images": len(rows),
        "usable": usable,
        "counts": dict(zip(classes, counts.tolist(), strict=True)),
        "bias": float(bias(counts / usable, target)) if usable else None,
        "bounds": list(bias_bounds(counts, len(rows) - usable, target)),
    }
