"""``fairbench list``: what can be named in a run."""

from enum import StrEnum
from typing import Annotated, Any

import typer

from fairbench.cli.output import print_json, print_table, say


class Kind(StrEnum):
    """What can be listed."""

    methods = "methods"
    models = "models"
    suites = "suites"
    judges = "judges"
    presets = "presets"


def list_(
    kind: Annotated[Kind, typer.Argument(help="What to list.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the methods, models, suites, judges or presets that a run can name."""
    rows = {
        "methods": _methods,
        "models": _models,
        "suites": _suites,
        "judges": _judges,
        "presets": _presets,
    }[kind]()
    if as_json:
        print_json(rows)
    elif rows:
        print_table(list(rows[0]), [list(row.values()) for row in rows])
    else:
        say(f"no {kind} found")


def _methods() -> list[dict[str, Any]]:
    from fairbench.plugins.registry import list_methods

    entries = list_methods()
    for entry in entries:
        if entry.problem:
            say(f"method {entry.name} of {entry.package} is broken: {entry.problem}")
    return [
        {"name": entry.name, "package": entry.package, "summary": entry.summary}
        for entry in entries
        if not entry.problem
    ]


def _models() -> list[dict[str, Any]]:
    from fairbench.models.loading import list_models

    return [{"name": name} for name in list_models()]


def _suites() -> list[dict[str, Any]]:
    from fairbench.suites import list_suites, load_suite

    suites = [load_suite(name) for name in list_suites()]
    return [
        {"name": suite.name, "version": suite.version}
        | {
            split: len(suite.prompts(split)) if split in suite.splits else 0
            for split in ("train", "validation", "test")
        }
        for suite in suites
    ]


def _judges() -> list[dict[str, Any]]:
    from fairbench.judges import list_judges

    return [{"name": name} for name in list_judges()]


def _presets() -> list[dict[str, Any]]:
    from fairbench.presets import list_presets, load_preset

    return [{"name": name, "summary": load_preset(name).summary} for name in list_presets()]
