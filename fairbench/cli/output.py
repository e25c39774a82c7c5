"""How every command prints: a rich table for people, JSON for machines."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table


class WholeConsole(Console):
    """Cuts nothing off: a table that needs more columns than there are has longer lines."""

    def print(self, *shown: Any, crop: bool = False, **options: Any) -> None:
        """Print ``shown`` as rich does."""
        super().print(*shown, crop=crop, **options)


def make_console(*, stderr: bool = False) -> Console:
    """Return what everything is printed on: brackets in names and paths are text, not rich's markup."""
    return WholeConsole(stderr=stderr, markup=False)


def print_json(content: Any) -> None:
    """Print ``content`` as JSON on standard output, unstyled and unwrapped."""
    print(json.dumps(content, indent=2, ensure_ascii=False, default=str))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print ``rows`` under ``columns``."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    make_console().print(table)
