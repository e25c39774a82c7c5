"""Which part of a model carries the change of a finetuning, as a picture and as a table."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from rich import box
from rich.table import Table

from fairbench.report import style
from fairbench.report.layout import NumberTable
from fairbench.report.tables import ABSENT, shown

COLOURS = {"text_encoder": style.BLUE, "unet": style.ORANGE, "prefix": "#009e73"}


def shares(found: Mapping[str, Mapping[str, Any]], path: Path) -> Path:
    """Draw the share of every part in each change, with its 95 % interval, run beside run; return `path`.

    ``found`` is run -> what `fairbench.diagnostics.components.attribute` returned.
    """
    quantities = list(dict.fromkeys(name for run in found.values() for name in run["quantities"]))
    rows = [(run, part) for run, content in found.items() for part in content["parts"]]
    with mpl.rc_context(style.RC):
        size = (1.6 + 3.1 * len(quantities), 1.1 + 0.45 * len(rows))
        figure = Figure(figsize=size, layout="constrained")
        panels = figure.subplots(1, len(quantities), sharey=True, squeeze=False)[0]
        for axes, name in zip(panels, quantities, strict=True):
            for place, (run, part) in enumerate(rows):
                entry = found[run]["quantities"].get(name, {}).get("parts", {}).get(part, {})
                if entry.get("share") is None:
                    continue
                low, high = entry["share_interval"] or (entry["share"],) * 2
                axes.plot(
                    [100 * low, 100 * high], [place, place], color=COLOURS[part], linewidth=2.5, alpha=0.5
                )
                axes.plot(100 * entry["share"], place, "o", color=COLOURS[part], markersize=7)
            axes.axvline(0, color=style.GREY, linewidth=0.8)
            axes.axvline(100, color=style.PALE, linewidth=0.8, zorder=0)
            axes.set_title(name)
            axes.set_xlabel("share of the change, %")
        panels[0].set_yticks(range(len(rows)), [_label(run, part, len(found)) for run, part in rows])
        panels[0].set_ylim(len(rows) - 0.5, -0.5)
        return style.save(figure, path, dpi=130)


def table(run: str, found: Mapping[str, Any]) -> Table:
    """Lay out the change of every quantity and what each part has of it, with 95 % intervals."""
    laid = NumberTable(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), title=run)
    laid.title_justify = laid.caption_justify = "left"
    laid.add_column("")
    for name in ("before", "after", *(part.replace("_", " ") for part in found["parts"])):
        laid.add_column(name, justify="right", no_wrap=True)
    for name, quantity in found["quantities"].items():
        entries = [quantity["parts"][part] for part in found["parts"]]
        ends = (shown(quantity["before"], ".3f"), shown(quantity["after"], ".3f"))
        laid.add_row(name, *ends, *(shown(entry["share"], ".0%") for entry in entries))
        laid.add_row("  95 % interval", "", "", *map(_interval, entries), style="dim")
    laid.caption = "share of each part in the change (Shapley), resampled over prompts"
    return laid


def _label(run: str, part: str, runs: int) -> str:
    return f"{run}: {part}" if runs > 1 else part


def _interval(entry: Mapping[str, Any]) -> str:
    ends: Sequence[float] | None = entry["share_interval"]
    return ABSENT if ends is None else f"[{ends[0]:.0%}, {ends[1]:.0%}]"
