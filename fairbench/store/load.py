"""A finished run as it lies on the disk, for whatever compares or measures it again.

Older ones are brought to the newest schema as they are read; newer ones are refused.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairbench.errors import UserError
from fairbench.records import PRODUCT, classes_read
from fairbench.storage import read_json, read_yaml
from fairbench.store.layout import CONFIG, MEASUREMENT, METRICS, PROVENANCE, RECORDS, RunDirectory
from fairbench.store.measurement import JudgeUsed, Measurement, read_measurement
from fairbench.store.results import SCHEMA_VERSION, Metrics, Provenance

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class StoredRun:
    """What a run wrote."""

    path: Path
    config: dict[str, Any]
    provenance: Provenance
    records: "pd.DataFrame"
    metrics: Metrics


def load_run(directory: Path | str) -> StoredRun:
    """Read a finished run or evaluation; one of an older schema as if this one had written it.

    Raises
    ------
    UserError
        There is no finished run, a file of it cannot be read, or a newer fairbench wrote it.
    """
    import pandas as pd

    place = RunDirectory(Path(directory))
    if not place.finished:
        raise UserError(f"{directory}: is not a finished run: give the directory of one, or finish it first")
    metrics = read_json(place / METRICS)
    if metrics.get("schema_version", 0) > SCHEMA_VERSION:
        raise UserError(f"{directory}: was written by a newer fairbench: update fairbench to read it")
    try:
        records = pd.read_parquet(place / RECORDS)
    except (OSError, ValueError) as error:
        raise UserError(f"{place / RECORDS}: cannot be read: {error}") from None
    return StoredRun(
        path=place.path,
        config=read_yaml(place / CONFIG),
        provenance=Provenance.of(read_json(place / PROVENANCE), place / PROVENANCE),
        records=records,
        metrics=Metrics.of(_newest(metrics), place / METRICS),
    )


def measurement_of(run: StoredRun) -> Measurement:
    """Return what the run wrote down; of schema 1, gathered from metrics, records' columns and provenance."""
    if (run.path / MEASUREMENT).is_file():
        return read_measurement(run.path / MEASUREMENT)
    metrics, hashes = run.metrics, run.provenance.sha256
    known = hashes.judges | hashes.training_judge
    names = [*metrics.evaluation_judges, *filter(None, [metrics.training_judge])]
    return Measurement(
        method=metrics.method,
        draw_class=metrics.draw_class,
        model=metrics.model,
        suite=metrics.suite,
        suite_sha256=hashes.suite,
        attributes=tuple(metrics.attributes),
        target=metrics.target,
        judges=tuple(
            JudgeUsed(
                name=name,
                sha256=known[name],
                trained=name == metrics.training_judge,
                attributes=classes_read(run.records, name),
            )
            for name in names
        ),
        network=next(reversed(hashes.features), None),  # by default the one that reads no text
        notes=("this run was made before reference features were stored: FID and KID are as they were then",),
    )


def _newest(metrics: dict[str, Any]) -> dict[str, Any]:
    """Bring ``metrics.json`` to the newest schema: what is new is there, and empty where it is unknown."""
    version = metrics.get("schema_version", 0)
    if version < 2:
        asked = set(metrics["attributes"])
        paired = metrics["paired"].items()
        spilt = {name: test for name, test in paired if not set(name.split(PRODUCT)) & asked}
        metrics |= {"measures": "bias", "spill_over": spilt, "side_effects": {}, "sequential": None}
        metrics["variants"] = {name: {"groups": {}} | entry for name, entry in metrics["variants"].items()}
    if version < 3:
        gaps = metrics["gaming_gap"].items()
        metrics["gaming_gap"] = {name: {"value": value, "interval": None} for name, value in gaps}
    return metrics | {"schema_version": SCHEMA_VERSION}
