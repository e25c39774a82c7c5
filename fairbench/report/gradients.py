"""Gradients one can see: figure 1 of arXiv 2311.07604, the weights behind it, and the same as tables."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from rich import box
from rich.table import Table

from fairbench.report import style
from fairbench.report.layout import NumberTable
from fairbench.report.tables import ABSENT, shown

RULES = {
    "exact": ("exact (naive)", "#d55e00"),
    "raw": ("A only (raw)", style.ORANGE),
    "standardised": ("biased (standardised)", style.BLUE),
}
"""Rule -> what it is called and its colour."""
OFFICIAL = "#009e73"


def figure_one(steps: pd.DataFrame, curves: pd.DataFrame, path: Path) -> Path:
    """Draw the loss curves of the three gradients, and the scale of their terms over t; return `path`."""
    with mpl.rc_context(style.RC):
        figure = Figure(figsize=(10, 4), layout="constrained")
        left, right = figure.subplots(1, 2)
        for rule, (label, colour) in RULES.items():
            table = curves[curves["rule"] == rule].pivot(index="update", columns="run", values="loss")
            left.plot(table.index, table, color=colour, alpha=0.25, linewidth=0.9)
            mean = table.mean(axis=1).ewm(span=max(2, len(table) / 8)).mean()
            left.plot(mean.index, mean, color=colour, linewidth=2, label=label)
            right.fill_between(
                steps["timestep"],
                steps[f"low_{rule}"],
                steps[f"high_{rule}"],
                color=colour,
                alpha=0.16,
                linewidth=0,
            )
            right.plot(steps["timestep"], steps[f"scale_{rule}"], color=colour, linewidth=2, label=label)
        left.set_title("loss: 1 - cosine")
        left.set_xlabel("update")
        left.set_ylim(bottom=0)
        left.xaxis.set_major_locator(MaxNLocator(integer=True))
        left.legend(frameon=False)
        right.set_title("scale of each step's term, 90 % of noises")
        right.set_yscale("log")
        _over_time(right)
        return style.save(figure, path, dpi=130)


def weights(steps: pd.DataFrame, path: Path) -> Path:
    """Draw the gains and weights of the sampler, and the share of each step in the update; return `path`."""
    with mpl.rc_context(style.RC):
        figure = Figure(figsize=(10, 4), layout="constrained")
        left, right = figure.subplots(1, 2)
        lines = (
            ("gain", RULES["raw"]),
            ("weight_standardised", RULES["standardised"]),
            ("weight_official", ("official", OFFICIAL)),
        )
        for column, (label, colour) in lines:
            left.plot(steps["timestep"], steps[column], color=colour, marker="o", markersize=4, label=label)
        left.set_title("weight of each step")
        for rule, (label, colour) in RULES.items():
            right.plot(
                steps["timestep"],
                100 * steps[f"share_{rule}"],
                color=colour,
                marker="o",
                markersize=4,
                label=label,
            )
        right.set_title("share in the update, %")
        for axes in (left, right):
            axes.axhline(0, color=style.GREY, linewidth=0.8)
            _over_time(axes)
            axes.legend(frameon=False)
        return style.save(figure, path, dpi=130)


def steps_table(steps: pd.DataFrame) -> Table:
    """Lay out what each denoising step contributes, one row each."""
    headings = ("t", "gain", "exact", "90 %", "A only", "biased", "exact %", "A %", "biased %")
    table = _table("what each denoising step adds", headings)
    table.caption = (
        "gain of the sampler · scale of each term for a random cotangent\n"
        "% share in the update; below zero a step works against the rest"
    )
    for row in steps.to_dict("records"):
        shares = [f"{100 * row[f'share_{rule}']:.0f}" for rule in RULES]
        scales = [f"{row[f'scale_{rule}']:.2g}" for rule in RULES]
        spread = f"{row['low_exact']:.1g}–{row['high_exact']:.1g}"
        start = [f"{row['timestep']:.0f}", f"{row['gain']:.2f}"]
        table.add_row(*start, scales[0], spread, *scales[1:], *shares)
    return table


def summary_table(summary: Mapping[str, Any]) -> Table:
    """Lay out what is one number per gradient."""
    table = _table("the three gradients", ("",))
    for label, _ in RULES.values():
        table.add_column(label, justify="right", no_wrap=True)
    rows = {
        "loss at the end": ("final_loss", ".3f"),
        "spread at the noisiest step": ("spread", ".1f"),
        "exact over it, there": ("exact_over", ".2f"),
        "cosine with exact": ("cosine", ".2f"),
        "noise scale, images": ("noise_scale", ".1f"),
        "updates not finite": ("nonfinite_rate", ".0%"),
        "updates a clip would catch": ("clip_rate", ".0%"),
    }
    for label, (key, spec) in rows.items():
        table.add_row(label, *(_cell(summary.get(key, {}).get(rule), spec) for rule in RULES))
    table.caption = (
        "spread: 95 % quantile over 5 % quantile of the noises\n"
        f"noise scale: images at which noise and gradient are alike; {ABSENT} all noise"
    )
    return table


def _table(title: str, columns: tuple[str, ...]) -> Table:
    table = NumberTable(
        box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), title=title
    )
    table.title_justify = table.caption_justify = "left"
    for column in columns:
        table.add_column(column, justify="right" if column else "left", no_wrap=bool(column))
    return table


def _cell(value: Any, spec: str) -> str:
    number = value.get("update") if isinstance(value, Mapping) else value
    return shown(number, spec)


def _over_time(axes: Axes) -> None:
    """Let time run as sampling does, from noise on the left to the picture on the right."""
    axes.invert_xaxis()
    axes.set_xlabel("timestep t")
    axes.grid(axis="y", color=style.PALE, linewidth=0.6)
