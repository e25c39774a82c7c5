"""Bias against semantic change: what each method removes, and what it changes of the pictures for that."""

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fairbench.errors import UserError, unknown
from fairbench.records import ORIGINAL
from fairbench.report import style
from fairbench.store.results import Metrics, Summary

MARKERS = {"emergent": "o", "drawn": "s", "coupled": "^", "unknown": "X"}
COLOURS = tuple(colour for colour in style.SERIES if colour != "#f0e442")
"""Without yellow, which a thin bar is lost in."""
CHANGES = {"clip_i": "CLIP-I", "dino": "DINO"}


class Point(NamedTuple):
    """One run: its change and its bias, with the ends of the 95 % interval of the bias."""

    label: str
    draw_class: str
    change: float
    bias: float
    low: float
    high: float
    floor: float


def pareto(
    runs: Sequence[Metrics], path: Path, *, attribute: str = "gender", measure: str = "clip_i"
) -> Path:
    """Draw the bias of every run against one minus its similarity to the original; return `path`.

    Parameters
    ----------
    runs
        The metrics of runs that debias.
    path
        Where the picture goes.
    attribute
        Whose bias, such as ``gender`` or ``gender x race``.
    measure
        ``clip_i`` or ``dino``.

    Raises
    ------
    UserError
        The measure is unknown, or no run holds both numbers.
    """
    if measure not in CHANGES:
        raise unknown("measure of change", measure, CHANGES)
    points = [point for run in runs if (point := _point(run, attribute, measure))]
    if not points:
        raise UserError(f"no run holds {attribute} and {CHANGES[measure]}: there is nothing to draw")
    points.sort(key=lambda point: point.bias)
    with mpl.rc_context(style.RC):
        figure = Figure(figsize=(9, max(5, 1 + 0.27 * len(points))), layout="constrained")
        axes = figure.subplots()
        _floor(axes, [point.floor for point in points])
        _original(axes, runs, attribute)
        _front(axes, points)
        for number, (point, colour) in enumerate(zip(points, cycle(COLOURS), strict=False), start=1):
            _draw(axes, point, number, colour)
        axes.set_xlabel(f"semantic change (1 - {CHANGES[measure]} to the original of the same noise)")
        axes.set_ylabel(f"{attribute} bias, 95 % interval over prompts")
        axes.set_ylim(bottom=0)
        axes.grid(color=style.PALE, linewidth=0.6)
        axes.set_axisbelow(True)
        figure.legend(loc="outside right upper", frameon=False, handletextpad=0.5)
        return style.save(figure, path, dpi=130)


def front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the points that no other one beats in both coordinates, in order of the first."""
    best: list[tuple[float, float]] = []
    for point in sorted(points):
        if not best or point[1] < best[-1][1]:
            best.append(point)
    return best


def _point(run: Metrics, attribute: str, measure: str) -> Point | None:
    if run.variant is None:
        return None
    entry = run.variants[run.variant]
    summary, similarity = entry.bias.get(attribute, Summary()), entry.quality.value(measure)
    bias, floor = summary.bias_mean, summary.floor
    if bias is None or floor is None or similarity is None:
        return None
    low, high = summary.interval or (bias, bias)
    return Point(run.method, run.draw_class, 1 - similarity, bias, low, high, floor)


def _floor(axes: Axes, floors: Sequence[float]) -> None:
    """Draw what a fair model scores; a band where the runs have different numbers of images."""
    label = "floor: fair, images independent"
    if max(floors) - min(floors) > 1e-3:
        axes.axhspan(min(floors), max(floors), color=style.PALE, linewidth=0, label=label)
    else:
        axes.axhline(sum(floors) / len(floors), color=style.GREY, linewidth=1.2, linestyle="--", label=label)


def _original(axes: Axes, runs: Sequence[Metrics], attribute: str) -> None:
    """Draw the original model, which has changed nothing; runs of other seeds have their own."""
    summaries = [run.variants[ORIGINAL].bias.get(attribute, Summary()) for run in runs]
    biases = {summary.bias_mean for summary in summaries if summary.bias_mean is not None}
    axes.scatter(
        [0] * len(biases), sorted(biases), marker="D", s=48, color=style.INK, zorder=4, label="original"
    )


def _front(axes: Axes, points: Sequence[Point]) -> None:
    """Draw the steps below and left of which no method comes."""
    best = front([(point.change, point.bias) for point in points])
    axes.step(*zip(*best, strict=True), where="post", color=style.GREY, linewidth=1, alpha=0.7, zorder=1)


def _draw(axes: Axes, point: Point, number: int, colour: str) -> None:
    """Draw one run; its name stands in the legend, because names beside the points would hide each other."""
    axes.errorbar(
        point.change,
        point.bias,
        yerr=[[point.bias - point.low], [point.high - point.bias]],
        fmt=MARKERS[point.draw_class],
        color=colour,
        markersize=7,
        capsize=3,
        linewidth=1.2,
        zorder=3,
        label=f"{number}  {point.label}, {point.draw_class}",
    )
    where = (point.change, point.bias)
    axes.annotate(str(number), where, xytext=(6, 4), textcoords="offset points", fontsize=9, color=colour)
