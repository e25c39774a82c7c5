"""One look for every picture: palette, typography, and how a figure becomes a file.

The colours are of Okabe and Ito and of Paul Tol, told apart under the common forms of colour blindness; none
stands for what it names.
"""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from fairbench.storage import atomic_write_bytes

INK, GREY, PALE = "#222222", "#767676", "#e4e4e4"
ORANGE, BLUE = "#e69f00", "#0072b2"

PALETTES: dict[str, tuple[str, ...]] = {
    "gender": (ORANGE, BLUE),
    "race": ("#44aa99", "#ddcc77", "#332288", "#cc6677"),
    "age": ("#88ccee", "#882255"),
}
SERIES = (BLUE, ORANGE, "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#f0e442", "#666666")

RC: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "xtick.color": GREY,
    "ytick.color": GREY,
    "svg.hashsalt": "fairbench",
}


def colours(attribute: str, classes: Sequence[str]) -> list[str]:
    """Return one colour per class, the same for an attribute in every picture."""
    palette = PALETTES.get(attribute, SERIES)
    if len(classes) > len(palette):
        palette = SERIES
    return [palette[k % len(palette)] for k in range(len(classes))]


def save(figure: Figure, path: Path, dpi: int = 100) -> Path:
    """Write `figure` as PNG, whole or not at all, with the same bytes for the same picture."""
    buffer = io.BytesIO()
    with mpl.rc_context(RC):
        figure.savefig(buffer, format="png", dpi=dpi, facecolor="white", metadata={"Software": None})
    atomic_write_bytes(path, buffer.getvalue())
    return path
