"""Methods x attributes x seeds: many runs that share their settings, each an ordinary run directory.

A cell that fails is named and the others go on; the images of the original model are made once.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from fairbench.config import RunConfig, make_config, spec
from fairbench.errors import Unsupported, UserError, invalid, one_line
from fairbench.progress import Progress
from fairbench.runs.plan import Plan, make_plan
from fairbench.runs.run import run
from fairbench.runs.session import Paint
from fairbench.storage import is_full_disk, read_yaml
from fairbench.store.layout import default_directory
from fairbench.store.results import Metrics

SAME_ORIGINAL = ("model", "model_options", "suite", "seed", "steps", "guidance")
"""Runs that agree in these have the same images of the original model."""


class Matrix(BaseModel):
    """What a matrix file holds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    methods: Annotated[tuple[str, ...], Field(min_length=1)]
    """Each as on the command line: ``biased_dft`` or ``biased_dft[rank=8]``."""
    attributes: Annotated[tuple[str, ...], Field(min_length=1)] = ("gender",)
    """Each what one run balances: ``gender`` or ``gender,race``."""
    seeds: Annotated[tuple[int, ...], Field(min_length=1)] = (0,)
    settings: dict[str, JsonValue] = {}
    """What all runs share; the keys of a settings file."""


@dataclass(frozen=True)
class Cell:
    """One run of a matrix."""

    config: RunConfig
    plan: Plan | None = None
    """None where its method cannot do it."""
    impossible: str = ""
    """Why not."""

    @property
    def name(self) -> str:
        """What its directory is called."""
        return default_directory(self.config).name


@dataclass(frozen=True)
class Outcome:
    """How a cell went; ``reason`` says why it was not done."""

    cell: Cell
    directory: Path
    state: Literal["done", "skipped", "failed"]
    metrics: Metrics | None = None
    reason: str = ""
    error: Exception | None = None


def load_matrix(path: Path, overrides: Mapping[str, Any]) -> list[Cell]:
    """Read the cells of a YAML file; ``overrides`` that are not None win over its settings.

    Raises
    ------
    UserError
        The file is missing or not YAML, a key is unknown or mistyped, a cell is there twice, or its method,
        options or settings are wrong.
    """
    try:
        matrix = Matrix.model_validate(read_yaml(path))
    except ValidationError as error:
        raise invalid(str(path), error, Matrix.model_fields) from None
    return make_cells(matrix, overrides, f"{path}: ")


def make_cells(matrix: Matrix, overrides: Mapping[str, Any], where: str = "") -> list[Cell]:
    """Multiply ``matrix`` out and check every cell as far as goes without a model; see `load_matrix`."""
    varied = {"method", "method_options", "attributes", "seed"}
    if fixed := sorted(varied & matrix.settings.keys()):
        raise UserError(
            f"{where}settings: {fixed[0]} differs from cell to cell: list it outside the settings"
        )
    given = {key: value for key, value in overrides.items() if value is not None}
    cells: dict[str, Cell] = {}
    for method in matrix.methods:
        name, options = _spec(method, where)
        for attributes in matrix.attributes:
            for seed in matrix.seeds:
                cell = {"method": name, "method_options": options, "attributes": attributes, "seed": seed}
                made = _checked({**matrix.settings, **given, **cell}, f"{where}cell {method} x {attributes}")
                if (same := _regardless_of_order(made)) in cells:
                    raise UserError(f"{where}the cell {made.name} is there twice: name it once")
                cells[same] = made
    return list(cells.values())


def run_cells(
    cells: Sequence[Cell],
    out: Path,
    *,
    fresh: bool = False,
    progress: Callable[[Cell], AbstractContextManager[Progress]],
    paint: Paint | None = None,
) -> list[Outcome]:
    """Run every cell in its directory below ``out``; the same call again goes on where it stopped.

    ``progress(cell)`` is a context that yields what the run of that cell is to tell.

    Raises
    ------
    UserError
        The disk is full, which no other cell could go on from.
    """
    outcomes: list[Outcome] = []
    for cell in cells:
        earlier = [outcome.directory for outcome in outcomes if _same_original(cell, outcome.cell)]
        outcomes.append(_outcome(cell, out / cell.name, earlier, fresh, progress, paint))
    return outcomes


def _spec(method: str, where: str) -> tuple[str, dict[str, JsonValue]]:
    try:
        return spec(method)
    except UserError as error:
        raise UserError(f"{where}{error}") from None


def _checked(settings: dict[str, Any], where: str) -> Cell:
    config = make_config(settings, where)
    if config.images:
        raise UserError(f"{where}: {config.images} holds the images already: use fairbench evaluate --images")
    try:
        return Cell(config, make_plan(config))
    except Unsupported as error:
        return Cell(config, impossible=str(error))
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


def _regardless_of_order(cell: Cell) -> str:
    """Return a name that cells share if they balance the same attributes, in whatever order."""
    attributes = tuple(sorted(cell.config.attributes))
    return default_directory(cell.config.model_copy(update={"attributes": attributes})).name


def _outcome(
    cell: Cell,
    place: Path,
    originals: Sequence[Path],
    fresh: bool,
    progress: Callable[[Cell], AbstractContextManager[Progress]],
    paint: Paint | None,
) -> Outcome:
    if cell.plan is None:
        return Outcome(cell, place, "skipped", reason=cell.impossible)
    try:
        with progress(cell) as tell:
            metrics = run(cell.plan, place, fresh=fresh, progress=tell, paint=paint, originals=originals)
    except Unsupported as error:
        return Outcome(cell, place, "skipped", reason=str(error))
    except Exception as error:  # one cell must not take the others with it
        if is_full_disk(error):
            raise
        reason = one_line(error, named=not isinstance(error, UserError))
        return Outcome(cell, place, "failed", reason=reason, error=error)
    return Outcome(cell, place, "done", metrics)


def _same_original(ours: Cell, theirs: Cell) -> bool:
    return all(getattr(ours.config, key) == getattr(theirs.config, key) for key in SAME_ORIGINAL)
