"""Bias against semantic change: what each method removes, and what it changes of the pictures for that."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fairbench.errors import UserError, unknown
from fairbench.report import style
from fairbench.report.tables import method_of
from fairbench.runs.registry import ORIGINAL

MARKERS = {"emergent": "o", "drawn": "s", "coupled": "^"}
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
    runs: Sequence[Mapping[str, Any]], path: Path, *, attribute: str = "gender", measure: str = "clip_i"
) -> Path:
    """Draw the bias of every run against one minus its similarity to the original; return `path`.

    Parameters
    ----------
    runs
        The content of ``metrics.json`` of runs that debias.
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
    colours = dict(zip(dict.fromkeys(point.label for point in points), _cycle(), strict=False))
    with mpl.rc_context(style.RC):
        figure = Figure(figsize=(8, 5), layout="constrained")
        axes = figure.subplots()
        _floor(axes, [point.floor for point in points])
        _original(axes, runs, attribute)
        _front(axes, points)
        for point in points:
            _draw(axes, point, colours[point.label])
        axes.set_xlabel(f"semantic change (1 - {CHANGES[measure]} to the original of the same noise)")
        axes.set_ylabel(f"{attribute} bias, 95 % interval over prompts")
        axes.set_ylim(bottom=0)
        axes.grid(color=style.PALE, linewidth=0.6)
        axes.set_axisbelow(True)
        _legend(figure, axes, points)
        return style.save(figure, path, dpi=130)


def front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the points that no other one beats in both coordinates, in order of the first."""
    best: list[tuple[float, float]] = []
    for point in sorted(points):
        if not best or point[1] < best[-1][1]:
            best.append(point)
    return best


def _point(run: Mapping[str, Any], attribute: str, measure: str) -> Point | None:
    method = method_of(run)
    if method is None:
        return None
    entry = run["variants"][method]
    summary, similarity = entry["bias"].get(attribute), entry["quality"].get(measure)
    if not summary or summary["bias_mean"] is None or not similarity or similarity["mean"] is None:
        return None
    bias = summary["bias_mean"]
    low, high = summary["interval"] or (bias, bias)
    return Point(run["method"], run["draw_class"], 1 - similarity["mean"], bias, low, high, summary["floor"])


def _floor(axes: Axes, floors: Sequence[float]) -> None:
    """Draw what a fair model scores; a band where the runs have different numbers of images."""
    label = "what a fair model scores (iid)"
    if max(floors) - min(floors) > 1e-3:
        axes.axhspan(min(floors), max(floors), color=style.PALE, linewidth=0, label=label)
    else:
        axes.axhline(sum(floors) / len(floors), color=style.GREY, linewidth=1.2, linestyle="--", label=label)


def _original(axes: Axes, runs: Sequence[Mapping[str, Any]], attribute: str) -> None:
    biases = [run["variants"][ORIGINAL]["bias"][attribute]["bias_mean"] for run in runs]
    seen = {round(bias, 6) for bias in biases if bias is not None}
    axes.scatter([0] * len(seen), list(seen), marker="D", s=48, color=style.INK, zorder=4, label="original")


def _front(axes: Axes, points: Sequence[Point]) -> None:
    """Draw the steps below and left of which no method comes."""
    best = front([(point.change, point.bias) for point in points])
    axes.step(*zip(*best, strict=True), where="post", color=style.GREY, linewidth=1, alpha=0.7, zorder=1)


def _draw(axes: Axes, point: Point, colour: str) -> None:
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
    )
    axes.annotate(
        point.label,
        (point.change, point.bias),
        xytext=(7, 5),
        textcoords="offset points",
        fontsize=8.5,
        color=colour,
    )


def _legend(figure: Figure, axes: Axes, points: Sequence[Point]) -> None:
    for draw_class in dict.fromkeys(point.draw_class for point in points):
        axes.scatter([], [], marker=MARKERS[draw_class], color=style.GREY, label=draw_class)
    figure.legend(loc="outside upper left", ncols=5, frameon=False, handletextpad=0.4)


def _cycle() -> list[str]:
    """Return more colours than there are methods; labels stand next to the points anyway."""
    return [colour for colour in style.SERIES if colour != "#f0e442"] * 8
