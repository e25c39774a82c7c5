"""What a run shows while it works: one line per stage, with the time left, on standard error."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import StringIO

from rich.console import RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from fairbench.terminal import Screen, visible


@contextmanager
def live_progress(quiet: bool = False) -> Iterator[Callable[[str, int, int], None]]:
    """Show the stages of a run as they go; yields the function to tell ``(stage, done, total)``."""
    columns = (
        TextColumn("{task.description:<16}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    bars = Progress(*columns, console=Screen(stderr=True), disable=quiet)
    tasks: dict[str, TaskID] = {}

    def tell(stage: str, done: int, total: int) -> None:
        if not tasks:  # not before there is something to show: an error found first is to stand alone
            bars.start()
        if stage not in tasks:
            tasks[stage] = bars.add_task(visible(stage), total=total, completed=done)
        bars.update(tasks[stage], completed=done, total=total)

    try:
        yield tell
    finally:
        if tasks:
            bars.stop()


def in_notebook(shown: RenderableType) -> dict[str, str]:
    """Return what a notebook shows of something that is printed: text, and the same as HTML."""
    console = Screen(record=True, file=StringIO(), width=115, force_jupyter=False)
    console.print(shown)
    page = '<pre style="white-space: pre; overflow-x: auto; line-height: normal">{code}</pre>'
    html = console.export_html(inline_styles=True, code_format=page, clear=False)
    return {"text/html": html, "text/plain": console.export_text()}
