"""From records to the numbers of one variant: bias per attribute and intersection, and what it is worth.

Beside every mean stand the images behind it, the faces missing, the noise floor and an interval over prompts.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from fairbench.errors import UserError
from fairbench.metrics.bias import bias, bias_bounds, class_counts, intersection_labels, labels_of
from fairbench.metrics.debiased import debiased_gap
from fairbench.metrics.floor import noise_floor
from fairbench.metrics.intervals import mean_interval

FACE_THRESHOLD = 0.5
"""An image is usable where the judge is at least so sure of a face."""


def summarise(records: pd.DataFrame, judge: str, space_names: Sequence[str]) -> dict[str, dict[str, Any]]:
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

    Returns
    -------
    For each: ``bias_mean`` and ``bias_sd`` (sample standard deviation) over prompts, the ``interval`` of the
    mean, its ``bounds`` whatever the images without a face are, the ``debiased`` gap, the noise ``floor`` at
    the images used, ``prompts``, ``prompts_without_value``, ``images``, ``usable``, ``face_rate``, and
    ``per_prompt``: ``prompt_id``, ``prompt``, ``images``, ``usable``, ``counts`` of each class, ``bias`` and
    its ``bounds``. A prompt without a usable image has the bias None; so has any number that cannot be given.

    Raises
    ------
    UserError
        The records have no judgement by this judge of an attribute.
    """
    labels, classes = _judged(records, judge, space_names)
    if len(space_names) > 1:
        product = " x ".join(space_names)
        sizes = [len(classes[name]) for name in space_names]
        labels[product] = intersection_labels([labels[name] for name in space_names], sizes)
        combinations = itertools.product(*(classes[name] for name in space_names))
        classes[product] = [" ".join(combination) for combination in combinations]
    return {name: _summary(records, labels[name], classes[name]) for name in labels}


def _judged(
    records: pd.DataFrame, judge: str, names: Sequence[str]
) -> tuple[dict[str, np.ndarray], dict[str, list[str]]]:
    """Return the label of every image and the names of the classes, per attribute."""
    face = f"{judge}/face"
    if face not in records:
        raise UserError(f"the records have no column {face!r}: evaluate them with the judge {judge!r} first")
    usable = (records[face] >= FACE_THRESHOLD).to_numpy()
    labels, classes = {}, {}
    for name in names:
        columns = [str(column) for column in records if str(column).startswith(f"{judge}/{name}/")]
        if not columns:
            raise UserError(f"the judge {judge!r} has not judged {name}: ask for an attribute that it judges")
        labels[name] = np.where(usable, labels_of(records[columns]), -1)
        classes[name] = [column.rsplit("/", 1)[1] for column in columns]
    return labels, classes


def _summary(records: pd.DataFrame, labels: np.ndarray, classes: Sequence[str]) -> dict[str, Any]:
    groups = records.reset_index(drop=True).groupby("prompt_id", sort=False)
    prompts = [_prompt(rows, labels[rows.index], classes) for _, rows in groups]
    values = [prompt["bias"] for prompt in prompts if prompt["bias"] is not None]
    interval = mean_interval(values)
    images, usable = len(labels), int((labels >= 0).sum())
    return {
        "bias_mean": float(np.mean(values)) if values else None,
        "bias_sd": float(np.std(values, ddof=1)) if len(values) > 1 else None,
        "interval": list(interval) if interval else None,
        "bounds": np.mean([prompt["bounds"] for prompt in prompts], axis=0).tolist() if prompts else None,
        "debiased": debiased_gap([list(prompt["counts"].values()) for prompt in prompts])
        if prompts
        else None,
        "floor": noise_floor([prompt["usable"] for prompt in prompts], len(classes)),
        "prompts": len(prompts),
        "prompts_without_value": len(prompts) - len(values),
        "images": images,
        "usable": usable,
        "face_rate": usable / images if images else None,
        "per_prompt": prompts,
    }


def _prompt(rows: pd.DataFrame, labels: np.ndarray, classes: Sequence[str]) -> dict[str, Any]:
    counts = class_counts(labels, len(classes))
    usable = int(counts.sum())
    return {
        "prompt_id": str(rows["prompt_id"].iloc[0]),
        "prompt": str(rows["prompt"].iloc[0]),
        "images": len(rows),
        "usable": usable,
        "counts": dict(zip(classes, counts.tolist(), strict=True)),
        "bias": float(bias(counts / usable)) if usable else None,
        "bounds": list(bias_bounds(counts, len(rows) - usable)),
    }
