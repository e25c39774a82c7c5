"""The cells of a matrix in one table, one row per run and attribute, and the pictures over all of them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from fairbench.records import ORIGINAL
from fairbench.report.pareto import pareto
from fairbench.report.tables import ABSENT, method_of, shown
from fairbench.runs.matrix import Outcome
from fairbench.store.layout import RunDirectory
from fairbench.store.provenance import cost

WORDS = ("run", "state", "attribute", "draw")
NUMBERS = {
    "original": ".2f",
    "debiased": ".2f",
    "floor": ".2f",
    "CLIP-I": ".2f",
    "U-Net rows": ".0f",
    "training s": ".0f",
}


def cells_frame(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """Return one row per run and attribute that it set out to balance, ready for JSON."""
    rows: list[dict[str, Any]] = []
    for outcome in outcomes:
        row = {"run": outcome.cell.name, "state": outcome.state, "reason": outcome.reason or None}
        if outcome.metrics is None:
            rows.append(row | {"attribute": " x ".join(outcome.cell.config.attributes)})
            continue
        spent = _cost(outcome.metrics, outcome.directory)
        rows += [row | _numbers(outcome.metrics, name) | spent for name in balanced(outcome.metrics)]
    return rows


def lay_out(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Lay the rows of `cells_frame` out for people."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for column in WORDS:
        table.add_column(column, overflow="fold")
    for column in NUMBERS:
        table.add_column(column, justify="right")
    for row in rows:
        words = [str(row.get(name) or ABSENT) for name in WORDS]
        numbers = [shown(row.get(name), spec) for name, spec in NUMBERS.items()]
        table.add_row(*words, *numbers)
    return table


def draw_all(outcomes: Sequence[Outcome], directory: Path) -> list[Path]:
    """Draw bias against semantic change for every set of attributes that more than one method balanced."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for outcome in outcomes:
        metrics = outcome.metrics
        if metrics is None or not method_of(metrics):
            continue
        name = balanced(metrics)[-1]
        if name in metrics["variants"][ORIGINAL]["bias"]:  # a suite that measures obedience has no bias
            found.setdefault(name, []).append(metrics)
    return [
        pareto(runs, directory / f"pareto_{name.replace(' ', '_')}.png", attribute=name)
        for name, runs in found.items()
        if len(runs) > 1
    ]


def balanced(metrics: Mapping[str, Any]) -> list[str]:
    """Name what a run set out to balance: its attributes, then their intersection."""
    names = list(metrics["attributes"])
    return [*names, " x ".join(names)] if len(names) > 1 else names


def _numbers(metrics: Mapping[str, Any], attribute: str) -> dict[str, Any]:
    method = method_of(metrics)
    variants = metrics["variants"]
    last = variants[method or ORIGINAL]
    biases = {name: variant["bias"].get(attribute, {}) for name, variant in variants.items()}
    return {
        "attribute": attribute,
        "draw": metrics["draw_class"],
        "original": biases[ORIGINAL].get("bias_mean"),
        "debiased": biases[method].get("bias_mean") if method else None,
        "floor": biases[method or ORIGINAL].get("floor"),
        "CLIP-I": (last["quality"].get("clip_i") or {}).get("mean"),
    }


def _cost(metrics: Mapping[str, Any], directory: Path) -> dict[str, Any]:
    spent = cost(RunDirectory(directory).provenance(), method_of(metrics) or ORIGINAL)
    return {"U-Net rows": spent["unet_rows_per_image"], "training s": spent["training_seconds"]}
