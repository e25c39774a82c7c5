"""The picture that says it at a glance: original images beside the debiased ones of the same noise.

Under every row a bar counts who is seen in all images of that prompt, not only in the few that are shown.
"""

from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from fairbench.images.files import read_image
from fairbench.records import ORIGINAL, judge_of, measured, method_of
from fairbench.report import style
from fairbench.report.shares import Shares, captions
from fairbench.store.results import Metrics

# Laid out in pixels: one unit of the axes is one pixel and, at 72 dpi, so is one point of a font.
TILE, SPACE = 96, 4
MARGIN, GUTTER = 36, 52
HEADER, CAPTION, BAR, ROW_SPACE, FOOTER = 64, 32, 18, 26, 78


def before_after(
    records: pd.DataFrame,
    run_directory: Path,
    metrics: Metrics | None = None,
    *,
    attributes: Sequence[str] = (),
    prompts: int = 6,
    images: int = 8,
    path: Path | None = None,
) -> Path:
    """Draw rows of original images beside the debiased ones of the same noise; return the path of the PNG.

    The prompts are those of the largest original bias (`most_biased`), the images the first ones of each
    prompt: none is picked for how it came out. Every attribute has its bar, and the first one decides on the
    prompts; the default is what the run set out to balance, else all that was measured. Without a debiased
    variant only the original is drawn.
    """
    judge = judge_of(records, metrics.primary_judge if metrics else None)
    balanced = attributes or (metrics and metrics.attributes) or measured(records, judge)
    counted = [Shares.of(records, judge, attribute, metrics) for attribute in balanced]
    method = method_of(records)
    variants = [ORIGINAL] if method is None else [ORIGINAL, method]
    chosen, names = most_biased(counted[0], prompts), captions(records)
    columns = min(images, int(records["image_index"].nunique()))

    block = columns * (TILE + SPACE) - SPACE
    row = CAPTION + TILE + len(counted) * BAR + ROW_SPACE
    width = 2 * MARGIN + len(variants) * (block + GUTTER) - GUTTER
    height = HEADER + len(chosen) * row + FOOTER
    with mpl.rc_context(style.RC):
        figure, axes = _canvas(width, height)
        for v, variant in enumerate(variants):
            x = MARGIN + v * (block + GUTTER)
            axes.text(x, 42, f"After {method}" if v else "Original model", fontsize=27, fontweight="bold")
            for r, prompt_id in enumerate(chosen):
                y = HEADER + r * row
                if v == 0:
                    axes.text(x, y + CAPTION - 10, names[prompt_id], fontsize=21)
                _biases(axes, counted, (variant, prompt_id), x + block, y + CAPTION - 10)
                mine = records[(records["variant"] == variant) & (records["prompt_id"] == prompt_id)]
                files = [run_directory / f for f in mine.sort_values("image_index")["image"][:columns]]
                _tiles(axes, files, x, y + CAPTION)
                for k, s in enumerate(counted):
                    _bar(axes, s, (variant, prompt_id), x, y + CAPTION + TILE + 6 + k * BAR, block)
        same = "" if method is None else ", same noise left and right"
        note = f"First {columns} images of each prompt{same}. Bars count all images; ticks mark the target."
        _footer(axes, counted, note, height - FOOTER + 16)
    return style.save(figure, path or run_directory / "pictures" / "before_after.png", dpi=72)


def most_biased(shares: Shares, count: int) -> list[str]:
    """Return the prompts of the largest original bias, taking in turn one that leans to each class."""
    bias = shares.bias.xs(ORIGINAL).dropna().sort_index().sort_values(ascending=False, kind="stable")
    leaning = {str(p): int(shares.seen(ORIGINAL, str(p)).argmax()) for p in bias.index}
    groups = [[p for p in leaning if leaning[p] == k] for k in range(len(shares.classes))]
    turns = [p for turn in zip_longest(*groups) for p in turn if p is not None]
    return [p for p in leaning if p in turns[:count]]


def _canvas(width: int, height: int) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width / 72, height / 72), dpi=72)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    axes.axis("off")
    return figure, axes


def _biases(axes: Axes, counted: Sequence[Shares], key: tuple[str, str], x: float, y: float) -> None:
    text = ", ".join(f"{s.attribute} {s.bias[key]:.2f}" for s in counted)
    axes.text(x, y, f"bias: {text}", fontsize=18, color=style.GREY, ha="right")


def _tiles(axes: Axes, files: Sequence[Path], x: float, y: float) -> None:
    """Draw images in a row, scaled with Lanczos: sharp for small ones, smooth for large ones."""
    for k, file in enumerate(files):
        picture = Image.fromarray(read_image(file))  # what the judges were shown
        tile = np.asarray(picture.resize((TILE, TILE), Image.Resampling.LANCZOS))
        left = x + k * (TILE + SPACE)
        axes.imshow(tile, extent=(left, left + TILE, y + TILE, y), interpolation="none")


def _bar(axes: Axes, shares: Shares, key: tuple[str, str], x: float, y: float, width: float) -> None:
    """Stack the classes' shares of all images; pale grey is "no face", dark ticks mark the target."""
    height, seen = BAR - 6, shares.seen(*key)
    edges = width * np.cumsum([0.0, *seen])
    axes.add_patch(Rectangle((x, y), width, height, color=style.PALE, linewidth=0))
    for left, right, colour in zip(edges, edges[1:], shares.colours, strict=False):
        axes.add_patch(Rectangle((x + left, y), right - left, height, color=colour, linewidth=0))
    for tick in edges[-1] * np.cumsum(shares.target)[:-1]:
        axes.add_patch(Rectangle((x + tick - 1, y - 3), 2, height + 6, color=style.INK, linewidth=0))


def _footer(axes: Axes, counted: Sequence[Shares], note: str, y: float) -> None:
    """Explain the colours, and below them how the images were chosen and what the bars count."""
    keys = [key for s in counted for key in zip(s.classes, s.colours, strict=True)]
    if any((s.table["n"] < s.table["images"]).any() for s in counted):
        keys.append(("no face", style.PALE))
    x = float(MARGIN)
    for label, colour in keys:
        axes.add_patch(Rectangle((x, y - 8), 16, 16, color=colour, linewidth=0))
        text = axes.text(x + 23, y, label, fontsize=18, va="center_baseline")
        x = text.get_window_extent().x1 + 24
    axes.text(MARGIN, y + 30, note, fontsize=16, color=style.GREY, va="center_baseline")
