"""``fairbench score``: compute every number of a run anew from what it stored."""

from pathlib import Path
from typing import Annotated

import typer

from fairbench.cli import options


def score(
    run: Annotated[Path, typer.Argument(help="Directory of a finished run or evaluation.")],
    verify: options.Verify = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the metrics as JSON.")] = False,
) -> None:
    """Compute every metric anew from stored records and features: no model, no judge, no GPU."""
    from fairbench.cli.result import print_result
    from fairbench.scoring.score import score as score_stored

    print_result(score_stored(run, verify=verify), run, as_json)
