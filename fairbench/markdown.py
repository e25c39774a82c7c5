"""Tables in Markdown, for model cards and the pages of results."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from fairbench.storage import atomic_write_text
from fairbench.terminal import visible

MARKED = re.compile(r"(<!-- tables -->\n).*(<!-- end of tables -->)", re.DOTALL)


def markdown_table(head: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """Lay out ``rows`` under ``head``.

    Examples
    --------
    >>> print(markdown_table(["run", "bias"], [["original", 0.5]]))
    | run | bias |
    | --- | --- |
    | original | 0.5 |
    """
    lines = [map(escaped, head), ["---"] * len(head), *(map(escaped, row) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def escaped(text: object) -> str:
    r"""Write ``text`` in one line that opens no tag, link or cell of a table.

    Examples
    --------
    >>> print(escaped("a|b <script> [c](d)"))
    a\|b &lt;script> [c]\(d)
    """
    line = " ".join(str(text).split())
    line = line.replace("\\", "\\\\").replace("|", r"\|").replace("<", "&lt;").replace("](", r"]\(")
    return visible(line)


def write_between_marks(page: Path, text: str) -> None:
    r"""Put ``text`` in the place of what stands between the two marks of a page, see `MARKED`.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     page = Path(folder, "page.md")
    ...     _ = page.write_text("<!-- tables -->\nold <!-- end of tables -->")
    ...     write_between_marks(page, "new ")
    ...     print(page.read_text())
    <!-- tables -->
    new <!-- end of tables -->
    """
    now = page.read_text(encoding="utf-8")
    atomic_write_text(page, MARKED.sub(lambda found: found[1] + text + found[2], now))
