"""Several judges in one comparison: whether they agree, and whether leaving one out changes who is best."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from fairbench.comparison.shared import Shared, target_of
from fairbench.comparison.variants import Variant
from fairbench.metrics.agreement import Estimate, agreement, gaming_gap
from fairbench.metrics.counts import count_table, mean_known, prompt_biases
from fairbench.records import PRODUCT, reads


def gaming(shared: Shared, variant: Variant, attribute: str) -> Estimate | None:
    """Return the gaming gap of one variant; None without a training judge that reads the attribute."""
    names = [*variant.trained_by]
    judges = list(shared.panel or variant.judges)
    if not names or not all(reads(variant.rows, names[0], part) for part in attribute.split(PRODUCT)):
        return None
    return gaming_gap(variant.rows, names[0], judges, attribute, target_of(shared.targets, attribute))


def judge_panel(shared: Shared, attributes: Sequence[str]) -> dict[str, Any]:
    """Per attribute: how far the judges agree, and the order of the runs by all and without each of them."""
    import pandas as pd

    if len(shared.panel) < 2:
        return {}
    rows = pd.concat([each.rows for each in shared.variants], ignore_index=True)
    found = {}
    for attribute in attributes:
        target = target_of(shared.targets, attribute)
        seen = {}
        for judge in shared.panel:
            tables = [count_table(each.rows, judge, attribute) for each in shared.variants]
            if shared.prompts is not None:
                tables = [table.reindex(shared.prompts) for table in tables]
            seen[judge] = [mean_known(prompt_biases(table, target)) for table in tables]
        found[attribute] = {
            "agreement": agreement(rows, shared.panel, attribute),
            "bias_mean": seen,
            "order": _order(shared, seen.values()),
            "without": {
                left: _order(shared, [means for judge, means in seen.items() if judge != left])
                for left in seen
            },
        }
    return found


def _order(shared: Shared, means: Iterable[Sequence[float | None]]) -> list[str]:
    """Return the labels from the least to the largest bias, by the mean over judges; no value is last."""
    order = np.argsort(np.array(list(means), dtype=float).mean(axis=0), kind="stable")
    return [shared.variants[number].label for number in order]
