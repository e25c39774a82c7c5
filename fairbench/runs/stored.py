"""A finished run as it lies on the disk, for whatever compares or measures it again."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairbench.errors import UserError
from fairbench.runs.directory import RunDirectory
from fairbench.storage import read_yaml

if TYPE_CHECKING:
    import pandas as pd

SCHEMA_VERSION = 1
"""The newest ``metrics.json`` that is understood here."""


@dataclass(frozen=True)
class StoredRun:
    """What a run wrote."""

    path: Path
    config: dict[str, Any]
    provenance: dict[str, Any]
    records: "pd.DataFrame"
    metrics: dict[str, Any]


def load_run(directory: Path | str) -> StoredRun:
    """Read a finished run.

    Raises
    ------
    UserError
        There is no finished run, a file of it cannot be read, or a newer fairbench wrote it.
    """
    import pandas as pd

    place = RunDirectory(Path(directory))
    if not place.finished:
        raise UserError(f"{directory}: is not a finished run: give the directory of one, or finish it first")
    metrics = _json(place / "metrics.json")
    if metrics.get("schema_version", 0) > SCHEMA_VERSION:
        raise UserError(f"{directory}: was written by a newer fairbench: update fairbench to read it")
    try:
        records = pd.read_parquet(place / "records.parquet")
    except (OSError, ValueError) as error:
        raise UserError(f"{place / 'records.parquet'}: cannot be read: {error}") from None
    return StoredRun(
        path=place.path,
        config=read_yaml(place / "config.yaml"),
        provenance=_json(place / "provenance.json"),
        records=records,
        metrics=metrics,
    )


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: is not the file of a run")
    return content
