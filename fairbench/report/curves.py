"""How the finetuning went, update by update: loss, gap of its images, what is kept, gradient norm."""

from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from fairbench.errors import UserError
from fairbench.report import style

PANELS = {
    "loss": "loss",
    "gap": "gap of the training images",
    "similarity": "similarity to the original images",
    "gradient_norm": "gradient norm",
    "undecided": "share of images the judge cannot decide",
}
"""Start of a column's name -> the title of its panel, in the order of the panels."""
STEP_NORMS = "step_norms"
"""Column with a list per update: the size of each denoising step's term in the gradient."""
COLUMNS = 2
SMOOTH = 10
"""A strong line averages over about one part in this many of the updates."""


def training(log: pd.DataFrame, path: Path) -> Path:
    """Draw the log of a training, one row per update; return `path`.

    Columns find their panel by how their name begins; all others are left out. Faint lines are the logged
    values, strong ones their exponential average. Where the terms of the denoising steps were logged, a panel
    shows their mean and the range that holds nine tenths of the updates.
    """
    numbers = log.select_dtypes("number").replace([np.inf, -np.inf], np.nan).dropna(axis="columns", how="all")
    panels = {title: numbers.filter(regex=f"^{start}(_|$)") for start, title in PANELS.items()}
    panels = {title: lines for title, lines in panels.items() if not lines.empty}
    if not panels:
        raise UserError(f"the training log holds none of {', '.join(PANELS)}: there is nothing to draw")
    updates = numbers["update"].to_numpy() if "update" in numbers else np.arange(1, len(numbers) + 1)
    with mpl.rc_context(style.RC):
        steps = _step_norms(log)
        rows = -(-(len(panels) + (steps is not None)) // COLUMNS)
        figure = Figure(figsize=(4.6 * COLUMNS, 3 * rows), layout="constrained")
        for place, (title, lines) in enumerate(panels.items(), start=1):
            _panel(figure.add_subplot(rows, COLUMNS, place), updates, lines, title)
        if steps is not None:
            _steps(figure.add_subplot(rows, COLUMNS, len(panels) + 1), steps)
        return style.save(figure, path, dpi=130)


def _panel(axes: Axes, updates: np.ndarray, lines: pd.DataFrame, title: str) -> None:
    for (name, values), colour in zip(lines.items(), style.SERIES, strict=False):
        average = values.ewm(span=max(2, len(values) / SMOOTH)).mean()
        axes.plot(updates, values, color=colour, alpha=0.28, linewidth=0.9)
        marker = "o" if len(values) < SMOOTH else None
        axes.plot(updates, average, color=colour, linewidth=2, marker=marker, label=_label(str(name)))
    if len(lines.columns) > 1:
        axes.legend(frameon=False, handlelength=1.2)
    if title == PANELS["gradient_norm"] and float(np.nanmin(lines)) > 0:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_ylim(bottom=0)
    axes.set_title(title)
    axes.set_xlabel("update")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlim(updates[0] - 0.5, updates[-1] + 0.5)
    axes.grid(axis="y", color=style.PALE, linewidth=0.6)


def _step_norms(log: pd.DataFrame) -> np.ndarray | None:
    """Return updates x steps; a step that an update left out is nan there."""
    if STEP_NORMS not in log:
        return None
    rows = [np.asarray(row, dtype=float) for row in log[STEP_NORMS] if np.ndim(row) == 1]
    if not rows or len({len(row) for row in rows}) > 1:
        return None
    table = np.array(rows)
    return np.where((table > 0) & np.isfinite(table), table, np.nan)


def _steps(axes: Axes, norms: np.ndarray) -> None:
    used = ~np.isnan(norms).all(axis=0)
    place, norms = np.flatnonzero(used) + 1, norms[:, used]
    low, high = np.nanquantile(norms, (0.05, 0.95), axis=0)
    axes.fill_between(place, low, high, color=style.BLUE, alpha=0.16, linewidth=0)
    axes.plot(place, np.nanmean(norms, axis=0), color=style.BLUE, linewidth=2, marker="o", markersize=4)
    axes.set_title("gradient by denoising step")
    axes.set_xlabel("step, from noise to picture")
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(axis="y", color=style.PALE, linewidth=0.6)


def _label(name: str) -> str:
    """Return what sets a column apart within its panel: ``loss_alignment`` is "alignment"."""
    return name.partition("_")[2].replace("_", " ") or "total"
