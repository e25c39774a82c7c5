"""``fairbench export``: what a run learnt, as a directory with a model card.

Diffusers loads it where the method is weights or words; the card says so, and how.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fairbench.cli import options
from fairbench.errors import UserError

if TYPE_CHECKING:
    from fairbench.store.results import Metrics, Summary


def export(
    run: Annotated[Path, typer.Argument(help="Directory of a finished run.", show_default=False)],
    to: Annotated[
        Path, typer.Option(help="Directory to write; must not exist or be empty.", **options.WRITTEN)
    ],
    verify: options.Verify = False,
) -> None:
    """Write the weights a run learnt, their settings and a model card with what was measured."""
    from fairbench.cli.output import print_text
    from fairbench.intervention_files import save_intervention
    from fairbench.storage import atomic_directory, explained
    from fairbench.store.layout import RunDirectory
    from fairbench.store.load import load_adapter, load_run

    stored, adapter = load_run(run, verify=verify), RunDirectory(run).adapter
    if stored.metrics.variant is None:
        raise UserError(f"{run}: the run measured the original model and learnt nothing to export")
    with explained(to):
        if to.exists() and (not to.is_dir() or any(to.iterdir())):
            raise UserError(f"{to}: something is there already; name another directory with --to")
    intervention = load_adapter(adapter, verify=verify)
    with atomic_directory(to) as directory:
        save_intervention(intervention, directory, measured(stored.metrics))
    print_text(f"{to}: {intervention.method}; its README.md says how to use it")


def measured(metrics: "Metrics") -> list[dict[str, str]]:
    """Return the rows of a model card: each bias with its interval and floor, then what it cost."""
    from fairbench.records import ORIGINAL
    from fairbench.report.tables import QUALITY, shown

    before = metrics.variants[ORIGINAL]
    after = metrics.variants[metrics.variant or ORIGINAL]
    rows = [
        {
            "what": f"bias {name} ({_fair(summary)}: {shown(summary.floor)})",
            "before": _with_interval(before.bias[name]),
            "after": _with_interval(summary),
        }
        for name, summary in after.bias.items()
    ]
    for key, (title, spec) in QUALITY.items():
        values = {"before": before.quality.value(key), "after": after.quality.value(key)}
        if after.quality[key] is not None:
            rows.append({"what": title} | {when: shown(value, spec) for when, value in values.items()})
    return rows


def _fair(summary: "Summary") -> str:
    from fairbench.report.tables import from_target

    target = from_target(summary)
    return f"measured from the target{target}; a model on target" if target else "a fair model"


def _with_interval(summary: "Summary") -> str:
    from fairbench.report.tables import shown

    mean = shown(summary.bias_mean)
    if summary.interval is None:
        return mean
    low, high = summary.interval
    return f"{mean} [{shown(low)}, {shown(high)}]"
