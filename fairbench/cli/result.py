"""How what was measured is printed: tables for people, `metrics.json` for machines."""

from pathlib import Path
from typing import TYPE_CHECKING

from fairbench.cli.output import make_console, print_json, print_text

if TYPE_CHECKING:
    from fairbench.store.results import Metrics


def print_result(
    metrics: "Metrics", directory: Path, as_json: bool = False, done_before: bool = False
) -> None:
    """Print what was measured and where the rest of it is, or all of it as JSON."""
    if as_json:
        print_json(metrics.to_json())
        return
    if done_before:
        print_text("this run was already done; --fresh repeats it")
    print_metrics(metrics)
    print_text(f"records, pictures and numbers: {directory}")
    print_text(f"each class by itself: fairbench show {directory}")


def print_metrics(metrics: "Metrics") -> None:
    """Print the table of a run, what became of other things, and why generating was stopped."""
    from fairbench.report.effects import side_effects
    from fairbench.report.tables import before_after

    console = make_console()
    console.print(before_after(metrics))
    if (effects := side_effects(metrics)) is not None:
        console.print(effects)
    if stopped := metrics.sequential:
        for name, entry in stopped.attributes.items():
            low, high = entry.interval
            print_text(
                f"{name}: rms gap in [{low:.3f}, {high:.3f}], valid although it was looked at all along"
            )
        fixed = stopped.images + stopped.saved
        print_text(f"{stopped.images} images, where a number fixed in advance would be {fixed}")


def print_groups(metrics: "Metrics") -> None:
    """Print the quality of every class by itself."""
    from fairbench.report.groups import within_groups

    make_console().print(*within_groups(metrics), sep="\n\n")
