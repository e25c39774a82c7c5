"""``fairbench export``: what a run learnt, as a directory with a model card.

Diffusers loads it where the method is weights or words; the card says so, and how.
"""

from pathlib import Path
from typing import Annotated, Any

import typer

from fairbench.errors import UserError


def export(
    run: Annotated[Path, typer.Argument(help="Directory of a finished run.", show_default=False)],
    to: Annotated[Path, typer.Option(help="Directory to write; must not exist or be empty.")],
) -> None:
    """Write the weights a run learnt, their settings and a model card with what was measured."""
    import json

    from fairbench.intervention_files import load_intervention, save_intervention
    from fairbench.store.layout import RunDirectory

    place = RunDirectory(run)
    if not place.finished:
        raise UserError(f"{run}: not a finished run; the command that began it goes on with it")
    if not place.adapter.is_dir():
        raise UserError(f"{run}: the run measured the original model and learnt nothing to export")
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise UserError(f"{to}: something is there already; name another directory with --to")
    intervention = load_intervention(place.adapter)
    metrics = json.loads((place / "metrics.json").read_text(encoding="utf-8"))
    save_intervention(intervention, to, measured(metrics))
    typer.echo(f"{to}: {intervention.method}; its README.md says how to use it")


def measured(metrics: dict[str, Any]) -> list[dict[str, str]]:
    """Return the rows of a model card: each bias with its interval and floor, then what it cost."""
    from fairbench.records import ORIGINAL
    from fairbench.report.tables import QUALITY, method_of

    before = metrics["variants"][ORIGINAL]
    after = metrics["variants"][method_of(metrics)]
    rows = [
        {
            "what": f"bias {name} ({_fair(summary)}: {_number(summary['floor'])})",
            "before": _with_interval(before["bias"][name]),
            "after": _with_interval(summary),
        }
        for name, summary in after["bias"].items()
    ]
    for key, (title, spec) in QUALITY.items():
        values = {"before": before["quality"].get(key), "after": after["quality"].get(key)}
        if values["after"] is not None:
            rows.append({"what": title} | {when: _number(value, spec) for when, value in values.items()})
    return rows


def _fair(summary: dict[str, Any]) -> str:
    from fairbench.report.tables import from_target

    target = from_target(summary)
    return f"measured from the target{target}; a model on target" if target else "a fair model"


def _number(value: object, spec: str = ".2f") -> str:
    from fairbench.report.tables import ABSENT

    if isinstance(value, dict):
        value = value.get("mean")
    return format(value, spec) if isinstance(value, int | float) else ABSENT


def _with_interval(summary: dict[str, Any]) -> str:
    low, high = summary.get("interval") or (None, None)
    mean = _number(summary.get("bias_mean"))
    return mean if low is None else f"{mean} [{_number(low)}, {_number(high)}]"
