"""``fairbench compare``: runs side by side, with what differs by more than noise."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from fairbench.cli import options
from fairbench.errors import UserError


def compare(
    runs: Annotated[list[Path], typer.Argument(help="Directories of finished runs.")],
    attributes: Annotated[
        str | None, typer.Option(help='Such as "gender,gender x race".', show_default="what all set out for")
    ] = None,
    margin: Annotated[
        list[str] | None,
        typer.Option(help="What counts as unchanged quality, such as clip_t=0.01; may be repeated."),
    ] = None,
    unpaired: Annotated[bool, typer.Option("--unpaired", help="Compare runs of different suites.")] = False,
    out: Annotated[Path, typer.Option(help="Where to save OUT.csv and OUT.json.", **options.WRITTEN)] = Path(
        "comparison"
    ),
    verify: options.Verify = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the comparison as JSON.")] = False,
) -> None:
    """Compare runs prompt by prompt; say what is significant, what is noise, and what does not compare."""
    if not out.name:
        raise UserError(f"--out {out}: name what to save, such as {out / 'comparison'}")
    margins = dict(_margin(text) for text in margin or [])

    from fairbench.cli.output import make_console, print_json
    from fairbench.comparison.compare import compare as compare_runs
    from fairbench.storage import atomic_write_csv, atomic_write_json
    from fairbench.store.load import load_run

    found = compare_runs(
        [load_run(path, verify=verify) for path in _runs(runs)],
        attributes=attributes,
        unpaired=unpaired,
        margins=margins,
    )
    from fairbench.report.comparison import comparison_frame, lay_out

    console = make_console()
    if as_json:
        print_json(found.to_json())
    else:
        console.print(lay_out(found))
    files = [out.with_name(out.name + suffix) for suffix in (".csv", ".json")]
    atomic_write_csv(files[0], comparison_frame(found))
    atomic_write_json(files[1], found.to_json())
    if not as_json:
        console.print(f"saved: {files[0]}, {files[1]}", highlight=False, soft_wrap=True)


def _runs(paths: Sequence[Path]) -> Iterator[Path]:
    """Take a matrix for its finished runs, and pass over the files that it wrote beside them."""
    from fairbench.store.layout import MATRIX, STATUS

    for path in paths:
        if (path / MATRIX).is_file():
            yield from sorted(status.parent for status in path.glob(f"*/{STATUS}"))
        elif path.is_dir() or not (path.parent / MATRIX).is_file():
            yield path


def _margin(text: str) -> tuple[str, float]:
    name, _, number = text.partition("=")
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise UserError(f"--margin {text!r}: write it like clip_t=0.01, above zero")
    return name.strip(), value
