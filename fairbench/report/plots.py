"""Prompt by prompt: how often a class is seen before and after, against the target and mere chance."""

from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import binom

from fairbench.errors import unknown
from fairbench.records import ORIGINAL, judge_of, method_of
from fairbench.report import style
from fairbench.report.shares import Shares, captions
from fairbench.store.results import Metrics

MOST = 200
"""Prompts that one picture can show and still be read."""


def dumbbell(
    records: pd.DataFrame,
    path: Path,
    metrics: Metrics | None = None,
    *,
    attribute: str = "gender",
    label: str | None = None,
) -> Path:
    """Draw the frequency of class `label` per prompt, original joined to debiased; return `path`.

    Prompts are sorted by their original frequency; `label` is the attribute's last class unless given. The
    line is the target; the band holds 95 % of what a model exactly on target shows with that many images.
    Of more than `MOST` prompts as many are shown, evenly spaced in their order.
    """
    shares = Shares.of(
        records, judge_of(records, metrics.primary_judge if metrics else None), attribute, metrics
    )
    if label is not None and label not in shares.classes:
        raise unknown(f"class of {attribute}", label, shares.classes)
    k = shares.classes.index(label or shares.classes[-1])
    frequencies = shares.table[shares.classes[k]]
    before = frequencies.xs(ORIGINAL).dropna().sort_values(kind="stable")
    prompts, method = len(before), method_of(records)
    if prompts > MOST:
        before = before.iloc[np.linspace(0, prompts - 1, MOST).round().astype(int)]

    with mpl.rc_context(style.RC):
        figure = Figure(figsize=(8, 1.6 + 0.22 * len(before)), layout="constrained")
        axes = figure.subplots()
        _expected(axes, shares.target[k], int(shares.table["n"].median()))
        _dots(axes, before.to_numpy(), style.INK, "original model", hollow=True)
        if method is not None:
            after = frequencies.xs(method).reindex(before.index).to_numpy()
            axes.hlines(
                np.arange(len(after)), before, after, color=shares.colours[k], alpha=0.35, linewidth=2.2
            )
            _dots(axes, after, shares.colours[k], f"after {method}")
        axes.set_yticks(range(len(before)), captions(records, 42)[before.index], color=style.INK)
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.8, len(before) - 0.2))
        few = f", {MOST} of {prompts} prompts" if prompts > MOST else ""
        axes.set_xlabel(f"share of images judged {shares.classes[k]}{few}")
        axes.xaxis.set_major_formatter("{x:.0%}")
        axes.tick_params(length=0)
        axes.spines[["left", "bottom"]].set_visible(False)
        axes.grid(axis="y", color=style.PALE, linewidth=0.6)
        axes.set_axisbelow(True)
        figure.legend(loc="outside upper left", ncols=4, frameon=False, handletextpad=0.4)
        return style.save(figure, path, dpi=130)


def _expected(axes: Axes, target: float, images: int) -> None:
    """Draw the target and the 95 % range of a binomial frequency around it."""
    if images:
        low, high = (float(binom.ppf(q, images, target)) / images for q in (0.025, 0.975))
        label = f"chance at the target (95 %, n = {images})"
        axes.axvspan(low, high, color=style.PALE, alpha=0.6, linewidth=0, label=label)
    axes.axvline(target, color=style.GREY, linewidth=1.2, label="target")


def _dots(axes: Axes, x: np.ndarray, colour: str, label: str, *, hollow: bool = False) -> None:
    face = "white" if hollow else colour
    axes.scatter(
        x, range(len(x)), s=36, facecolor=face, edgecolor=colour, linewidth=1.1, zorder=3, label=label
    )
