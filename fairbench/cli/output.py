"""How every command prints: a rich table for people, JSON for machines, one line for what went wrong."""

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rich.table import Table

from fairbench.terminal import Screen, visible


def make_console(*, stderr: bool = False) -> Screen:
    """Return what everything is printed on."""
    return Screen(stderr=stderr)


def print_text(text: object = "", end: str = "\n") -> None:
    """Print ``text`` on standard output, unstyled and unwrapped."""
    print(visible(str(text)), end=end)


def print_json(content: Any) -> None:
    """Print ``content`` as JSON on standard output, unstyled and unwrapped."""
    print_text(json.dumps(content, indent=2, ensure_ascii=False, default=str))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print ``rows`` under ``columns``."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    make_console().print(table)


def say(message: object) -> None:
    """Print one line of ours on standard error."""
    print(f"fairbench: {visible(' '.join(str(message).split()))}", file=sys.stderr)


def print_traceback(error: BaseException) -> None:
    """Print on standard error where ``error`` came from."""
    import traceback

    print(visible("".join(traceback.format_exception(error))), end="", file=sys.stderr)
