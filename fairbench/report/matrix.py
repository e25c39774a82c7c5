"""The cells of a matrix in one table, one row per run and attribute, and the pictures over all of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from fairbench.records import ORIGINAL, PRODUCT
from fairbench.report.layout import NumberTable
from fairbench.report.pareto import pareto
from fairbench.report.tables import ABSENT, shown
from fairbench.runs.matrix import Outcome
from fairbench.store.layout import RunDirectory
from fairbench.store.provenance import cost
from fairbench.store.results import MatrixRow, Metrics, Summary

WORDS = ("run", "state", "attribute", "draw")
NUMBERS = {
    "original": ("original", ".2f"),
    "debiased": ("debiased", ".2f"),
    "floor": ("floor", ".2f"),
    "clip_i": ("CLIP-I", ".2f"),
    "unet_rows": ("U-Net rows", ".0f"),
    "training_seconds": ("training s", ".0f"),
}


def matrix_rows(outcomes: Sequence[Outcome]) -> list[MatrixRow]:
    """Return one row per run and attribute that it set out to balance."""
    rows: list[MatrixRow] = []
    for outcome in outcomes:
        row: dict[str, Any] = {
            "run": outcome.cell.name,
            "state": outcome.state,
            "reason": outcome.reason or None,
        }
        if outcome.metrics is None:
            rows.append(MatrixRow(**row, attribute=PRODUCT.join(outcome.cell.config.attributes)))
            continue
        spent = _cost(outcome.metrics, outcome.directory)
        rows += [
            MatrixRow(**row, **_numbers(outcome.metrics, name), **spent) for name in outcome.metrics.balanced
        ]
    return rows


def lay_out(rows: Sequence[MatrixRow]) -> Table:
    """Lay the rows of a matrix out for people."""
    table = NumberTable(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for column in WORDS:
        table.add_column(column)
    for column, _ in NUMBERS.values():
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        words = [str(row[name] or ABSENT) for name in WORDS]
        numbers = [shown(row[name], spec) for name, (_, spec) in NUMBERS.items()]
        table.add_row(*words, *numbers)
    return table


def draw_all(outcomes: Sequence[Outcome], directory: Path) -> list[Path]:
    """Draw bias against semantic change for every set of attributes that more than one method balanced."""
    found: dict[str, list[Metrics]] = {}
    for outcome in outcomes:
        metrics = outcome.metrics
        if metrics is None or not metrics.variant:
            continue
        name = metrics.balanced[-1]
        if name in metrics.variants[ORIGINAL].bias:  # a suite that measures obedience has no bias
            found.setdefault(name, []).append(metrics)
    return [
        pareto(runs, directory / f"pareto_{name.replace(' ', '_')}.png", attribute=name)
        for name, runs in found.items()
        if len(runs) > 1
    ]


def _numbers(metrics: Metrics, attribute: str) -> dict[str, Any]:
    last = metrics.variants[metrics.variant or ORIGINAL]
    summaries = {name: variant.bias.get(attribute, Summary()) for name, variant in metrics.variants.items()}
    return {
        "attribute": attribute,
        "draw": metrics.draw_class,
        "original": summaries[ORIGINAL].bias_mean,
        "debiased": summaries[metrics.variant].bias_mean if metrics.variant else None,
        "floor": summaries[metrics.variant or ORIGINAL].floor,
        "clip_i": last.quality.value("clip_i"),
    }


def _cost(metrics: Metrics, directory: Path) -> dict[str, Any]:
    spent = cost(RunDirectory(directory).provenance(), metrics.variant or ORIGINAL)
    return {"unet_rows": spent.unet_rows_per_image, "training_seconds": spent.training_seconds}
