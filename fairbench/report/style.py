"""One look for every picture: palette, typography, and how a figure becomes a file.

The colours are of Okabe and Ito and of Paul Tol, told apart under the common forms of colour blindness; none
stands for what it names.
"""

import io
import logging
import warnings
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.text import Text

from fairbench.errors import Notice
from fairbench.storage import atomic_write_bytes

FONT = "DejaVu Sans"
MOST_PIXELS = 2**16 - 1
"""Of a side: what matplotlib before 3.10 can draw."""
BOXES = "Last Resort"
"""Fonts of this name have a box for every letter."""
UNSEEN = "\u200d\ufe0e\ufe0f"
"""Joiners and selectors of emoji, which have no shape."""

INK, GREY, PALE = "#222222", "#767676", "#e4e4e4"
ORANGE, BLUE = "#e69f00", "#0072b2"

PALETTES: dict[str, tuple[str, ...]] = {
    "gender": (ORANGE, BLUE),
    "race": ("#44aa99", "#ddcc77", "#332288", "#cc6677"),
    "age": ("#88ccee", "#882255"),
}
SERIES = (BLUE, ORANGE, "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#f0e442", "#666666")

RC: Any = {
    "font.family": FONT,
    "font.size": 10,
    "text.color": INK,
    "text.parse_math": False,  # a prompt may hold dollar signs
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


logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # it tells of every missing weight


def colours(attribute: str, classes: Sequence[str]) -> list[str]:
    """Return one colour per class, the same for an attribute in every picture."""
    palette = PALETTES.get(attribute, SERIES)
    if len(classes) > len(palette):
        palette = SERIES
    return [palette[k % len(palette)] for k in range(len(classes))]


def save(figure: Figure, path: Path, dpi: float = 100) -> Path:
    """Write `figure` as PNG, whole or not at all, with the same bytes for the same picture."""
    buffer = io.BytesIO()
    dpi = min(dpi, MOST_PIXELS / max(figure.get_size_inches()))
    with mpl.rc_context(RC), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # said below, once for all of them
        drawable = _find_fonts(figure)
        figure.savefig(buffer, format="png", dpi=dpi, facecolor="white", metadata={"Software": None})
    if not drawable:
        _tell_of_boxes()
    atomic_write_bytes(path, buffer.getvalue())
    return path


def _find_fonts(figure: Figure) -> bool:
    """Let every text use fonts that have its letters; tell whether there are such fonts for all."""
    texts = [text for text in figure.findobj(Text) if isinstance(text, Text)]
    letters = {ord(letter) for text in texts for letter in text.get_text() if letter not in UNSEEN}
    found = [FONT]
    missing = _missing(font_manager.findfont(FONT), {code for code in letters if not chr(code).isspace()})
    for font in font_manager.fontManager.ttflist if missing else ():
        if BOXES in font.name:
            continue
        if len(left := _missing(font.fname, missing)) < len(missing):
            found, missing = [*found, font.name], left
    if len(found) > 1:
        for text in texts:
            text.set_fontfamily(found)
    return not missing


def _missing(path: str, codes: set[int]) -> set[int]:
    """Return those of some letters that a font lacks: all of them, if matplotlib cannot use the font."""
    try:
        return codes - font_manager.get_font(path).get_charmap().keys()
    except (OSError, RuntimeError):
        return codes


@cache
def _tell_of_boxes() -> None:
    """Say it once, not for every picture."""
    warnings.warn(
        "letters of prompts or names are boxes in the pictures: install a font that has them, like Noto Sans",
        Notice,
        stacklevel=4,
    )
