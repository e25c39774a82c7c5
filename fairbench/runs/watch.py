"""Reads the training log while it grows, warns once of what goes wrong, and may end the training for it."""

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

from fairbench.finetuning.monitors import MONITORS, warnings_after, warnings_during
from fairbench.runs.training_log import TrainingLog, latest

if TYPE_CHECKING:
    import pandas as pd


class Watch:
    """Takes one row of the log per update; true means: stop here.

    Parameters
    ----------
    log
        Where the rows go; what it holds of an interrupted training is looked at as well.
    stop_on
        Names in `MONITORS` that end the training.
    warn
        Told each warning in a line, the first time that it holds.
    """

    def __init__(self, log: TrainingLog, stop_on: Collection[str], warn: Callable[[str], None]) -> None:
        self._log, self._stop_on, self._warn = log, frozenset(stop_on), warn
        self._rows: list[Mapping[Any, Any]] = [*log.table().to_dict("records")]
        self._told: set[str] = set()

    def __call__(self, row: dict[str, Any]) -> bool:
        """Keep ``row`` and look at all there is."""
        self._log.append(row)
        self._rows.append(row)
        found = warnings_during(latest(self._rows))
        for warning in found:
            if warning.name not in self._told:
                self._told.add(warning.name)
                self._warn(f"{warning.name}, since update {warning.since}: {warning.sentence}")
        reasons = [warning.name for warning in found if warning.name in self._stop_on]
        if reasons:
            self._warn(f"finetuning ends at update {row['update']}: --stop-on {reasons[0]}")
        return bool(reasons)


def told_at_the_end(
    log: "pd.DataFrame | None", metrics: dict[str, Any], planned: int, stop_on: Collection[str]
) -> dict[str, Any]:
    """Return ``metrics`` with its ``warnings``, and a note where the training ended before its time."""
    import pandas as pd

    log = pd.DataFrame() if log is None else log
    warnings = [
        {"name": warning.name, "sentence": warning.sentence, "since": warning.since}
        for warning in warnings_after(log, metrics)
    ]
    done = int(log["update"].max()) if len(log) and "update" in log else planned
    names = ", ".join(name for name in MONITORS if name in stop_on)
    notes = list(metrics.get("notes", ()))
    if stop_on and done < planned:
        notes.append(f"finetuning ended at update {done} of {planned}: --stop-on {names}")
    return metrics | {"warnings": warnings, "notes": notes}
