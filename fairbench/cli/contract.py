"""``fairbench test``: whether a method keeps the contract that every method is held to."""

from pathlib import Path
from typing import Annotated, Any

import typer

COLOURS = {"passed": "green", "failed": "red", "skipped": "yellow"}


def test(
    method: Annotated[
        str,
        typer.Argument(help=r"The Python file of a method, or the name of one, with options: name\[a=1]."),
    ],
    attributes: Annotated[str, typer.Option(help="What it is to balance.")] = "gender",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Try a method on the embedded model, clause by clause: a minute or less."""
    from fairbench.config import spec
    from fairbench.plugins.registry import find_method, method_in

    name, options = spec(method)
    kind = method_in(Path(name)) if name.endswith(".py") else find_method(name)

    from rich.text import Text

    from fairbench.cli.output import make_console, print_json
    from fairbench.plugins.contract import contract
    from fairbench.plugins.trial import World
    from fairbench.terminal import visible

    console, rows = make_console(), list[dict[str, Any]]()
    for clause in contract(kind, World.embedded(), options, attributes=attributes):
        rows.append({"clause": clause.name, "outcome": clause.outcome, "detail": clause.detail})
        if not as_json:
            line = Text.assemble((clause.outcome, COLOURS[clause.outcome]), f" {clause.name}")
            if clause.detail:
                line.append(f" ({visible(clause.detail)})", "dim")
            console.print(line, soft_wrap=True)
    if as_json:
        print_json(rows)
    return int(any(row["outcome"] == "failed" for row in rows))
