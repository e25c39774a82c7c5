"""The cells of a matrix in one table, one row per run and attribute, and the pictures over all of them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from fairbench.report.pareto import pareto
from fairbench.report.tables import ABSENT, method_of
from fairbench.runs.matrix import Outcome
from fairbench.runs.registry import ORIGINAL

COLUMNS = ("run", "state", "attribute", "draw", "original", "debiased", "floor", "CLIP-I")


def cells_frame(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """Return one row per run and attribute that it set out to balance, ready for JSON."""
    rows: list[dict[str, Any]] = []
    for outcome in outcomes:
        row = {"run": outcome.cell.name, "state": outcome.state, "reason": outcome.reason or None}
        if outcome.metrics is None:
            rows.append(row | {"attribute": " x ".join(outcome.cell.config.attributes)})
            continue
        rows += [row | _numbers(outcome.metrics, name) for name in balanced(outcome.metrics)]
    return rows


def lay_out(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Lay the rows of `cells_frame` out for people."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for column in COLUMNS[:4]:
        table.add_column(column, overflow="fold")
    for column in COLUMNS[4:]:
        table.add_column(column, justify="right")
    for row in rows:
        words = [str(row.get(name) or ABSENT) for name in COLUMNS[:4]]
        numbers = [row.get(name) for name in COLUMNS[4:]]
        table.add_row(*words, *(ABSENT if number is None else f"{number:.2f}" for number in numbers))
    return table


def draw_all(outcomes: Sequence[Outcome], directory: Path) -> list[Path]:
    """Draw bias against semantic change for every set of attributes that more than one method balanced."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for outcome in outcomes:
        if outcome.metrics is not None and method_of(outcome.metrics):
            found.setdefault(balanced(outcome.metrics)[-1], []).append(outcome.metrics)
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
    return {
        "attribute": attribute,
        "draw": metrics["draw_class"],
        "original": variants[ORIGINAL]["bias"][attribute]["bias_mean"],
        "debiased": variants[method]["bias"][attribute]["bias_mean"] if method else None,
        "floor": last["bias"][attribute]["floor"],
        "CLIP-I": (last["quality"].get("clip_i") or {}).get("mean"),
    }
