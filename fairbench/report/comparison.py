"""A comparison as tables for people, and as one flat table for whoever wants to go on computing."""

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd
from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from fairbench.report.layout import NumberTable
from fairbench.report.tables import ABSENT, FAIR, QUALITY, shown
from fairbench.store.provenance import Cost
from fairbench.store.results import ComparedQuality, ComparedRun, Comparison, Estimate
from fairbench.terminal import visible

LEGEND = (
    f"{FAIR} indistinguishable from fair · floor: what a fair model scores at this n\n"
    "rank: 95 % interval, prompts resampled\n"
    "gaming gap: bias that the training judge sees, minus that of the held-out ones\n"
    "beats: significantly less biased (paired permutation test, Holm over all pairs and attributes)"
)
COST = "U-Net rows: per image, guidance included · training: its time, and its U-Net rows in thousands"
WORDS = ("run", "quality", "draw class", "directory", "beats")
"""Columns that may be folded; the others hold numbers."""
UNCHANGED = "= unchanged within the margin (equivalence test, Holm), against the first row that has a value"


def lay_out(comparison: Comparison) -> Group:
    """Lay out what differs, the runs, bias, quality and what the panel of judges says."""
    return Group(
        *(Text(visible(f"! {line}"), style="yellow") for line in comparison.differences),
        _runs(comparison),
        _bias(comparison),
        _quality(comparison),
        *_panel(comparison),
    )


def comparison_frame(comparison: Comparison) -> pd.DataFrame:
    """Return one row per attribute and run: facts, bias with its tests, and quality."""
    facts = {run.label: run.model_dump() for run in comparison.runs}
    quality = {(measure, row.label): row for measure, rows in comparison.quality.items() for row in rows}
    table = []
    for attribute, rows in comparison.attributes.items():
        for row in rows:
            flat: dict[str, Any] = {"schema_version": comparison.schema_version, "attribute": attribute}
            flat |= facts[row.label] | row.model_dump() | {"beats": " ".join(row.beats)}
            for key in ("interval", "rank_interval"):
                flat[f"{key}_low"], flat[f"{key}_high"] = flat.pop(key) or (None, None)
            del flat["gaming_gap"]
            gap = row.gaming_gap or Estimate(value=None, interval=None)
            flat["gaming_gap"] = gap.value
            flat["gaming_gap_low"], flat["gaming_gap_high"] = gap.interval or (None, None)
            for (measure, label), found in quality.items():
                if label == row.label:
                    flat[measure] = found.mean
                    flat[f"{measure}_unchanged"] = found.change and found.change.unchanged
            table.append(flat)
    return pd.DataFrame(table)


def _runs(comparison: Comparison) -> Table:
    table = _table("run", "draw class", "images each", "seed", "U-Net rows", "training", "directory")
    table.caption = COST
    for run in comparison.runs:
        facts = (run.draw_class, run.images_per_prompt, str(run.seed), *cost(run), run.path)
        table.add_row(_name(comparison, run.label), *facts)
    return table


def cost(run: ComparedRun | Cost) -> tuple[str, str]:
    """Write what a run took: U-Net rows per image, and seconds of training with its thousands of rows."""
    seconds, rows = run.training_seconds, run.training_unet_rows
    training = ABSENT if seconds is None else f"{seconds:.0f} s" + (f", {rows / 1000:.0f}k" if rows else "")
    return shown(run.unet_rows_per_image, ".0f"), training


def _bias(comparison: Comparison) -> Table:
    trained = any(row.gaming_gap for rows in comparison.attributes.values() for row in rows)
    columns = [
        "bias",
        "95 %",
        "floor",
        "no noise",
        "rank",
        "beats",
        *(["gaming gap", "95 %"] if trained else []),
    ]
    table = _table("run", *columns)
    judge, prompts = comparison.judge, comparison.prompts
    table.title = " · ".join(
        filter(None, [judge and f"judged by {judge}", f"{prompts} prompts, paired" if prompts else ""])
    )
    table.caption = LEGEND
    for attribute, rows in comparison.attributes.items():
        table.add_row(attribute, style="bold")
        for row in sorted(rows, key=lambda row: (row.rank, row.label)):
            mark = f"{FAIR} " if row.fair else ""
            cells = [
                mark + shown(row.bias_mean),
                _range(row.interval),
                shown(row.floor) if row.fair is not None else ABSENT,
                shown(row.debiased),
                "–".join(dict.fromkeys(f"{place:g}" for place in row.rank_interval)),
                " ".join(row.beats),
            ]
            gap = row.gaming_gap
            cells += [shown(gap.value, "+.2f"), _range(gap.interval)] if gap else [ABSENT, ABSENT]
            table.add_row(_name(comparison, row.label), *cells[: len(columns)])
        table.add_section()
    return table


def _quality(comparison: Comparison) -> Table:
    found = {measure: rows for measure, rows in comparison.quality.items() if rows}
    table = _table("quality", *(QUALITY[measure][0] for measure in found))
    table.caption = UNCHANGED
    margins = {
        measure: next((row.change.margin for row in rows if row.change), None)
        for measure, rows in found.items()
    }
    for run in comparison.runs:
        cells = [_changed(run.label, rows) for rows in found.values()]
        table.add_row(_name(comparison, run.label), *cells)
    table.add_row("margin", *(ABSENT if m is None else f"±{m:g}" for m in margins.values()), style="dim")
    return table


def _changed(label: str, rows: Sequence[ComparedQuality]) -> str:
    row = next((row for row in rows if row.label == label), None)
    if row is None:
        return ABSENT
    return f"{'= ' if row.change and row.change.unchanged else ''}{shown(row.mean, '.3f')}"


def _panel(comparison: Comparison) -> Iterator[Text]:
    """Say how far the judges agree, and whether the order of the runs hangs on one of them."""
    for attribute, panel in comparison.panel.items():
        judges, alpha = panel.without, panel.agreement
        agreed = f"{shown(alpha.value)} ({_range(alpha.interval)})"
        yield Text(visible(f"{attribute}: {len(judges)} judges agree with Krippendorff's alpha {agreed}"))
        yield Text(visible(f"  order by all of them: {' '.join(panel.order)}"))
        for judge, order in judges.items():
            same = order == panel.order
            yield Text(
                visible(f"  without {judge}: {'the same' if same else ' '.join(order)}"),
                style="" if same else "yellow",
            )


def _table(*columns: str) -> Table:
    table = NumberTable(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.title_justify = table.caption_justify = "left"
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", no_wrap=column not in WORDS)
    return table


def _name(comparison: Comparison, label: str) -> str:
    run = next(run for run in comparison.runs if run.label == label)
    return f"{label} {run.name}"


def _range(interval: Sequence[float] | None) -> str:
    return f"{interval[0]:.2f}–{interval[1]:.2f}" if interval else ABSENT
