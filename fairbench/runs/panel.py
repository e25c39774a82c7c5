"""Several judges in one comparison: whether they agree, and whether leaving one out changes who is best."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from fairbench.metrics.agreement import Estimate, agreement, gaming_gap
from fairbench.metrics.counts import PRODUCT, count_table, mean_known, prompt_biases, reads
from fairbench.runs.entrants import Entrant
from fairbench.runs.setting import Setting, target_of


def gaming(setting: Setting, entrant: Entrant, attribute: str) -> Estimate | None:
    """Return the gaming gap of one entrant; None without a training judge that reads the attribute."""
    names = [*entrant.trained_by]
    judges = list(setting.panel or entrant.judges)
    if not names or not all(reads(entrant.rows, names[0], part) for part in attribute.split(PRODUCT)):
        return None
    return gaming_gap(entrant.rows, names[0], judges, attribute, target_of(setting.targets, attribute))


def judge_panel(setting: Setting, attributes: Sequence[str]) -> dict[str, Any]:
    """Per attribute: how far the judges agree, and the order of the runs by all and without each of them."""
    import pandas as pd

    if len(setting.panel) < 2:
        return {}
    rows = pd.concat([each.rows for each in setting.entrants], ignore_index=True)
    found = {}
    for attribute in attributes:
        target = target_of(setting.targets, attribute)
        seen = {}
        for judge in setting.panel:
            tables = [count_table(each.rows, judge, attribute) for each in setting.entrants]
            if setting.prompts is not None:
                tables = [table.reindex(setting.prompts) for table in tables]
            seen[judge] = [mean_known(prompt_biases(table, target)) for table in tables]
        found[attribute] = {
            "agreement": agreement(rows, setting.panel, attribute),
            "bias_mean": seen,
            "order": _order(setting, seen.values()),
            "without": {
                left: _order(setting, [means for judge, means in seen.items() if judge != left])
                for left in seen
            },
        }
    return found


def _order(setting: Setting, means: Iterable[Sequence[float | None]]) -> list[str]:
    """Return the labels from the least to the largest bias, by the mean over judges; no value is last."""
    order = np.argsort(np.array(list(means), dtype=float).mean(axis=0), kind="stable")
    return [setting.entrants[number].label for number in order]
