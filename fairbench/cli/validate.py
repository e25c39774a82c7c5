"""``fairbench validate``: prove the estimators, intervals and tests on models that are known."""

import os
from pathlib import Path
from typing import Annotated

import typer

from fairbench.cli.options import WRITTEN
from fairbench.errors import UserError

EVALUATIONS, QUICK = 2000, 100


def validate(
    evaluations: Annotated[int, typer.Option(help="Simulated evaluations per setting.")] = EVALUATIONS,
    classes: Annotated[list[int], typer.Option(help="K; may be repeated.")] = [2, 4, 8],  # noqa: B006
    images: Annotated[list[int], typer.Option(help="n; may be repeated.")] = [9, 60, 160],  # noqa: B006
    quick: Annotated[bool, typer.Option("--quick", help=f"{QUICK} evaluations and few pictures.")] = False,
    pictures: Annotated[bool, typer.Option(help="Also draw and judge pictures.")] = True,
    judge: Annotated[str, typer.Option(help="Who judges the pictures.")] = "portraits-eval-a",
    seed: Annotated[int, typer.Option(help="Of everything.")] = 0,
    jobs: Annotated[int | None, typer.Option(help="Processes.", show_default="one per core")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Directory for the tables and their page.", **WRITTEN)
    ] = None,
) -> None:
    """Simulate known models and judges: error of each estimate, coverage, type-I rate and power."""
    import pandas as pd

    from fairbench.cli.output import print_text
    from fairbench.report.live import live_progress
    from fairbench.validity.pictures import pictures as drawn
    from fairbench.validity.simulation import settings, simulate
    from fairbench.validity.tables import page, write

    if min(evaluations, *images, *classes) < 2:
        raise UserError("give at least 2 evaluations, 2 classes and 2 images per prompt")
    if jobs is not None and jobs < 1:
        raise UserError(f"--jobs {jobs}: at least one process is needed")
    evaluations = min(evaluations, QUICK) if quick else evaluations
    chosen, tables = settings(classes, images), {}
    with live_progress() as tell:
        if pictures:
            tell("pictures", 0, 1)
            tables["pictures"] = drawn(judge, *((6, 20, 400) if quick else (24, 60, 4000)), seed)
            tell("pictures", 1, 1)
        found = []
        for both in simulate(chosen, evaluations, seed, jobs or os.cpu_count() or 1):
            found.append(both)
            tell("known models", len(found), len(chosen))
    tables |= {
        "estimates": pd.concat([one for one, _ in found]),
        "tests": pd.concat([one for _, one in found]),
    }
    varied = "".join([*(f" --classes {k}" for k in classes), *(f" --images {n}" for n in images)])
    command = f"fairbench validate --evaluations {evaluations}{varied} --seed {seed}{' --quick' * quick}"
    if out is None:
        print_text(page(tables, command))
    else:
        write(out, tables, command)
        print_text(out / "README.md")
