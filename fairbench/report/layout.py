"""A table that keeps its numbers whole, however few columns a terminal or a pipe has: labels are folded."""

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

LABEL = 10
"""What is left of a column of words, at least; where that is too much, lines are longer than a screen."""


class NumberTable(Table):
    """A table whose columns that may not be wrapped keep their width; all others may be folded."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Render it, wider than the ``options`` allow if it must be."""
        least = 0
        for column in self.columns:
            widest = max(map(_width, (column.header, *column.cells)))
            column.min_width = widest if column.no_wrap else min(LABEL, widest)
            column.overflow = "fold"
            least += column.min_width + self.padding[1] + self.padding[3] + 1
        yield from super().__rich_console__(
            console, options.update(max_width=max(least + 2, options.max_width))
        )


def _width(cell: object) -> int:
    return cell_len(cell.plain if isinstance(cell, Text) else str(cell))
