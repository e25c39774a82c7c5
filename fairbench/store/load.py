"""A finished run as it lies on the disk, for whatever compares or measures it again.

Older ones are brought to the newest schema as they are read; newer ones are refused.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from fairbench.config import RunConfig, make_config
from fairbench.errors import UserError, one_line
from fairbench.intervention import Intervention
from fairbench.intervention_files import load_intervention
from fairbench.records import PRODUCT, classes_read, fault
from fairbench.storage import read_json, read_table, read_yaml
from fairbench.store.layout import ADAPTER, CONFIG, MEASUREMENT, METRICS, PROVENANCE, RECORDS, RunDirectory
from fairbench.store.manifest import check_made
from fairbench.store.measurement import JudgeUsed, Measurement, read_measurement
from fairbench.store.results import SCHEMA_VERSION, Metrics, Provenance, refuse_newer

if TYPE_CHECKING:
    import pandas as pd


ALWAYS = ("method", "model", "suite", "images_per_prompt", "seed")
"""Settings that every version has written down; without them they would be taken for the defaults."""


@dataclass(frozen=True, eq=False)
class StoredRun:
    """What a run wrote."""

    path: Path
    config: dict[str, Any]
    provenance: Provenance
    records: "pd.DataFrame"
    metrics: Metrics


def load_run(directory: Path | str, *, verify: bool = False) -> StoredRun:
    """Read a finished run or evaluation; one of an older schema as if this one had written it.

    Parameters
    ----------
    directory
        Of the run.
    verify
        Whether to look for changes in the content of all that is read, see `check_made`.

    Raises
    ------
    UserError
        There is no finished run, a file of it cannot be read or has changed, or a newer fairbench wrote it.
    """
    place = finished_run(directory)
    check_made(place, (CONFIG, PROVENANCE, RECORDS, METRICS, MEASUREMENT), verify=verify)
    config = read_config(place)
    run = StoredRun(
        path=place.path,
        config=config,
        provenance=place.provenance(),
        records=read_records(place, config),
        metrics=read_metrics(place),
    )
    measurement_of(run)  # to find it whole
    return run


def finished_run(directory: Path | str) -> RunDirectory:
    """Return the paths of a run that is done; a ``UserError`` where there is none."""
    place = RunDirectory(Path(directory))
    if not place.finished:
        raise UserError(f"{directory}: is not a finished run: give the directory of one, or finish it first")
    return place


def read_config(place: RunDirectory) -> dict[str, Any]:
    """Read the settings of a run as they are written; a ``UserError`` where one of them is damaged."""
    path = place / CONFIG
    content = read_yaml(path)
    if missing := [key for key in ALWAYS if key not in content]:
        raise UserError(f"{path}: lacks {', '.join(missing)}: restore it from a copy")
    make_config({key: content[key] for key in RunConfig.model_fields.keys() & content.keys()}, str(path))
    return content


def read_records(place: RunDirectory, config: Mapping[str, Any]) -> "pd.DataFrame":
    """Read the records of a run with these settings; a ``UserError`` where damaged, or images lie outside."""
    path = place / RECORDS
    records = read_table(path)
    if wrong := fault(records):
        raise UserError(f"{path}: {wrong}: restore it from a copy, or begin anew with --fresh")
    if "image" in records and not config.get("images"):
        strange = records["image"][~records["image"].map(_is_inside)]
        if len(strange):
            raise UserError(f"{path}: the image {strange.iloc[0]!r} does not lie in {place.path}")
    return records


def read_metrics(place: RunDirectory) -> Metrics:
    """Read the metrics of a run; of an older schema as if this version had written them."""
    path = place / METRICS
    content = read_json(path)
    refuse_newer(content, path)
    try:
        newest = _newest(content)
    except (AttributeError, KeyError, TypeError) as error:
        raise UserError(f"{path}: is damaged: {one_line(error, named=True)}") from None
    return Metrics.of(newest, path)


def load_adapter(directory: Path | str, *, verify: bool = False) -> Intervention:
    """Read what a method learnt; a ``UserError`` where it is damaged, or not as its run has made it."""
    directory = Path(directory)
    if directory.name == ADAPTER:
        check_made(RunDirectory(directory.parent), [ADAPTER], verify=verify)
    return load_intervention(directory)


def _is_inside(image: object) -> bool:
    path = PurePosixPath(str(image))
    return not path.is_absolute() and ".." not in path.parts


def measurement_of(run: StoredRun) -> Measurement:
    """Return what the run wrote down; of schema 1, gathered from metrics, records' columns and provenance."""
    if run.provenance.schema_version > 1 or (run.path / MEASUREMENT).exists():
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
    version = metrics["schema_version"]
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
