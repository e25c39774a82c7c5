"""``fairbench check``: fail where a run is worse than its reference by more than noise."""

from pathlib import Path
from typing import Annotated

import typer

from fairbench.cli import options
from fairbench.errors import UserError


def check(
    run: Annotated[Path, typer.Argument(help="Directory of a finished run.")],
    against: Annotated[
        Path | None, typer.Option(help="A reference file, or the directory of another run.")
    ] = None,
    tolerance: Annotated[float, typer.Option(min=0, max=1, help="How much worse a metric may be.")] = 0.0,
    save: Annotated[
        Path | None,
        typer.Option(help="Write the run as a reference file, and check nothing.", **options.WRITTEN),
    ] = None,
    verify: options.Verify = False,
) -> None:
    """Leave with 1 if a metric is missing, or worse by more than noise; print one line for each."""
    if (against is None) == (save is None):
        raise UserError(
            "give either --against, what to check the run against, or --save, what to write it to"
        )

    from fairbench.cli.output import print_text
    from fairbench.comparison.check import check as check_run
    from fairbench.comparison.reference import load_reference, reference_of, save_reference
    from fairbench.store.load import load_run

    stored = load_run(run, verify=verify)
    if save is not None:
        save_reference(save, reference_of(stored))
        print_text(f"reference: {save}")
    if against is None:
        return
    if against.is_dir():
        reference = reference_of(load_run(against, verify=verify))
    else:
        reference = load_reference(against)
    rows, notes = check_run(reference_of(stored, reference.judge_sha256), reference, tolerance=tolerance)
    if all(row.value is None for row in rows):
        raise UserError(f"{run} and {against} have no metric in common: save another reference")
    for note in notes:
        print_text(f"! {note}")
    for row in rows:
        if row.value is None:
            print_text(f"{'LACKS':6}{row.metric:24}not measured; {row.reference:.3f} in the reference")
            continue
        verdict, change = "WORSE" if row.worse else "ok", row.value - row.reference
        p_value = f"p {row.p_value:.3f}" if row.p_value >= 0.001 else "p < 0.001"
        numbers = f"{row.value:.3f} against {row.reference:.3f} ({change:+.3f}, {p_value})"
        print_text(f"{verdict:6}{row.metric:24}{numbers}")
    raise typer.Exit(int(any(row.worse for row in rows)))
