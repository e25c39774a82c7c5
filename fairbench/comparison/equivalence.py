"""Did quality stay the same? For every measure, an equivalence test against the first run that has it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fairbench.comparison.shared import Shared
from fairbench.metrics.significance import LEVEL, equivalence_test, holm
from fairbench.records import shows_face

if TYPE_CHECKING:
    import pandas as pd

MARGINS = {"recognised": 0.05, "face_rate": 0.02, "clip_t": 0.01, "clip_i": 0.02, "dino": 0.02}
"""Quality measure -> the largest change of its mean that counts as none, unless another is given."""


def quality_changes(shared: Shared, margins: Mapping[str, float]) -> dict[str, list[dict[str, Any]]]:
    """Per measure: the mean of every run, and its change against the first one that has it."""
    found: dict[str, list[dict[str, Any]]] = {}
    for measure, margin in margins.items():
        columns = [_by_prompt(shared, number, measure, judge) for number, judge in enumerate(shared.judges)]
        first = next((column for column in columns if column is not None), None)
        if first is not None:
            found[measure] = [
                _change(each.label, column, None if column is first else first, margin, shared)
                for each, column in zip(shared.variants, columns, strict=True)
                if column is not None
            ]
    tests = [row["change"] for rows in found.values() for row in rows if row["change"]]
    for test, adjusted in zip(tests, holm([test["p_value"] for test in tests]), strict=True):
        test |= {"p_holm": float(adjusted), "unchanged": bool(adjusted <= LEVEL)}
    return found


def _change(
    label: str, column: "pd.Series", first: "pd.Series | None", margin: float, shared: Shared
) -> dict[str, Any]:
    paired = first is not None and shared.prompts is not None
    change = equivalence_test((column - first).to_numpy(), margin) if paired else None
    return {"label": label, "mean": float(column.mean()), "change": dict(change) if change else None}


def _by_prompt(shared: Shared, number: int, measure: str, judge: str) -> "pd.Series | None":
    column = by_prompt(shared.variants[number].rows, measure, judge)
    return column if column is None or shared.prompts is None else column.reindex(shared.prompts)


def by_prompt(rows: "pd.DataFrame", measure: str, judge: str) -> "pd.Series | None":
    """Return one value per prompt: the mean over its images; None where nothing was measured."""
    import pandas as pd

    if measure == "face_rate":
        values = pd.Series(shows_face(rows, judge).astype(float), index=rows.index)
    else:
        name = measure if measure in rows else f"{judge}/{measure}"
        if name not in rows or rows[name].isna().all():
            return None
        values = rows[name].astype("float64")
    return values.groupby(rows["prompt_id"], sort=False).mean()
