"""``python -m fairbench.portraits.build`` builds the embedded model; the same command again resumes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

PACKAGE = Path(__file__).parent.parent


def main(
    work: Annotated[Path, typer.Option(help="Pictures and checkpoints are kept here.")] = Path(
        "runs/portraits-build"
    ),
    out: Annotated[
        Path, typer.Option(help="Where the finished model goes; the package's own place by default.")
    ] = PACKAGE,
    pictures: Annotated[
        int, typer.Option(min=2000, help="How many pictures to draw, in steps of 2,000.")
    ] = 100_000,
    only_confusion: Annotated[
        bool, typer.Option("--only-confusion", help="Only count the errors of judges that lack the counts.")
    ] = False,
) -> None:
    """Build the portraits model: two hours on two cores, minutes on a GPU."""
    from fairbench.portraits.build.stages import Build

    build = Build(work, out, pictures)
    build.confusions() if only_confusion else build.run()


if __name__ == "__main__":
    typer.run(main)
