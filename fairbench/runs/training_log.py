"""The log of a training while it goes on: one line of JSON per update, so that a kill loses none."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairbench.storage import explained

if TYPE_CHECKING:
    import pandas as pd


class TrainingLog:
    """Appends rows to a file and reads them back."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, row: dict[str, Any]) -> None:
        """Add one row; values that JSON does not know are taken as numbers."""
        with explained(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write("\n" + json.dumps(row, default=float))  # first, so that a torn row spoils no other

    def table(self) -> "pd.DataFrame":
        """Return one row per update, the latest where an update was repeated after an interruption."""
        lines = self.path.read_text(encoding="utf-8").splitlines() if self.path.is_file() else []
        return latest([row for line in lines if (row := _read(line)) is not None])


def latest(rows: Sequence[Mapping[Any, Any]]) -> "pd.DataFrame":
    """Return one row per update, the last where there are several."""
    import pandas as pd

    table = pd.DataFrame(rows)
    return table.drop_duplicates("update", keep="last", ignore_index=True) if "update" in table else table


def _read(line: str) -> dict[str, Any] | None:
    """Read one line; the last one of a killed training may be torn."""
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None
