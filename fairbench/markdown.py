"""Tables in Markdown, for model cards and the pages of results."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from fairbench.storage import atomic_write_text

MARKED = re.compile(r"(<!-- tables -->\n).*(<!-- end of tables -->)", re.DOTALL)


def markdown_table(head: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """Lay out ``rows`` under ``head``."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)


def write_between_marks(page: Path, text: str) -> None:
    """Put ``text`` in the place of what stands between the two marks of a page, see `MARKED`."""
    now = page.read_text(encoding="utf-8")
    atomic_write_text(page, MARKED.sub(lambda found: found[1] + text + found[2], now))
