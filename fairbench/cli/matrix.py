"""``fairbench run`` with a matrix, or with several methods: many runs, then all of them in one table."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairbench.cli.output import print_traceback, say
from fairbench.errors import UserError

if TYPE_CHECKING:
    from fairbench.progress import Progress
    from fairbench.runs.matrix import Cell, Outcome

SINGLE = {"--method": "methods", "--attributes": "attributes", "--seed": "seeds"}


def run_matrix(
    matrix: Path | None,
    methods: Sequence[str] | None,
    config: Path | None,
    given: dict[str, Any],
    training: dict[str, Any],
    out: Path | None,
    *,
    fresh: bool,
    as_json: bool,
) -> int:
    """Run all cells, show how each went, and return the exit code: 1 if one of them failed."""
    for option, value in training.items():
        raise UserError(f"{option} is an option of a method: write it as NAME[{option}={value}]")
    from fairbench.finetuning.processes import Processes

    if Processes().count > 1:
        raise UserError("several runs are one process: launch each run by itself, with one --method")
    cells = _from_file(matrix, methods, config, given) if matrix else _from_methods(methods, config, given)
    place = out or (Path("runs") / matrix.stem if matrix else Path("runs"))

    from fairbench.cli.output import make_console, print_json
    from fairbench.report.matrix import draw_all, lay_out, matrix_rows
    from fairbench.report.pictures import paint
    from fairbench.runs.matrix import run_cells
    from fairbench.storage import atomic_write_json, lock
    from fairbench.store.layout import MATRIX

    warnings.simplefilter("ignore", FutureWarning)  # of the libraries, to their own callers
    with lock(place):  # of two at once, one would write into the table what the other was doing
        outcomes = run_cells(cells, place, fresh=fresh, progress=_progress(len(cells), as_json), paint=paint)
        for outcome in outcomes:
            _explain(outcome)
        rows = matrix_rows(outcomes)
        content = [row.to_json() for row in rows]
        atomic_write_json(place / MATRIX, content)
        pictures = draw_all(outcomes, place)
    if as_json:
        print_json(content)
    else:
        console = make_console()
        console.print(lay_out(rows))
        console.print(f"runs: {place}", highlight=False, soft_wrap=True)
        for picture in pictures:
            console.print(f"picture: {picture}", highlight=False, soft_wrap=True)
    return int(any(outcome.state == "failed" for outcome in outcomes))


def _from_file(
    path: Path, methods: Sequence[str] | None, config: Path | None, given: dict[str, Any]
) -> "list[Cell]":
    from fairbench.runs.matrix import load_matrix

    varied = {"--method": methods, "--attributes": given.get("attributes"), "--seed": given.get("seed")}
    for option, value in varied.items():
        if value is not None:
            raise UserError(f"{option} and --matrix: list it under {SINGLE[option]} in {path}")
    if config:
        raise UserError(f"--config and --matrix: put the settings under settings in {path}")
    return load_matrix(path, given)


def _from_methods(methods: Sequence[str] | None, config: Path | None, given: dict[str, Any]) -> "list[Cell]":
    from fairbench.runs.matrix import Matrix, make_cells
    from fairbench.storage import read_yaml

    settings = (read_yaml(config) if config else {}) | given
    attributes, seed = settings.pop("attributes", "gender"), settings.pop("seed", 0)
    names = attributes if isinstance(attributes, str) else ",".join(map(str, attributes))
    for key in ("method", "method_options"):
        settings.pop(key, None)  # of the file: the methods of the command line take their place
    matrix = Matrix(methods=tuple(methods or ()), attributes=(names,), seeds=(seed,))
    return make_cells(matrix, settings, f"{config}: " if config else "")


def _progress(total: int, quiet: bool) -> "Callable[[Cell], Any]":
    done = 0

    @contextmanager
    def progress(cell: "Cell") -> "Iterator[Progress]":
        from fairbench.report.live import live_progress

        nonlocal done
        done += 1
        if not quiet:
            say(f"{done} of {total}: {cell.name}")
        with live_progress(quiet) as tell:
            yield tell

    return progress


def _explain(outcome: "Outcome") -> None:
    if outcome.state == "done":
        return
    if outcome.error and not isinstance(outcome.error, UserError):
        print_traceback(outcome.error)
    say(f"{outcome.cell.name}: {outcome.state}: {outcome.reason}")
