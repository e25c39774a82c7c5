"""One directory at work: checked, held and begun; then from images to stored records, numbers and pictures.

Each stage is timed, and does only what an interrupted one has left.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from fairbench.config import RunConfig
from fairbench.progress import Progress
from fairbench.runs.generation import Kept
from fairbench.scoring.judging import Instruments, record
from fairbench.scoring.score import score_directory, table
from fairbench.storage import (
    atomic_write_json,
    atomic_write_table,
    atomic_write_tensors,
    atomic_write_text,
    lock,
    sha256_of,
)
from fairbench.store.layout import (
    CONFIG,
    FEATURES,
    MADE,
    MEASUREMENT,
    METRICS,
    PROVENANCE,
    RECORDS,
    REFERENCE,
    STATUS,
    TRAINING_LOG,
    RunDirectory,
)
from fairbench.store.load import load_run, read_config, read_records
from fairbench.store.manifest import check_made, write_manifest
from fairbench.store.measurement import Measurement
from fairbench.store.provenance import Stopwatch, describe_machine, peak_memory
from fairbench.store.results import SCHEMA_VERSION, InputHashes, Metrics, Provenance

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

Paint = Callable[[Path, "pd.DataFrame", "pd.DataFrame | None", Metrics], None]
"""Draws pictures from directory, records, training log and metrics; the report is a floor above."""
MadeOf = Callable[[], InputHashes]
"""Hashes what a run is made of; asked only where there is something to compare it with."""


def finished(place: RunDirectory, config: RunConfig, made_of: MadeOf, *, fresh: bool) -> Metrics | None:
    """Return what was measured here, if all is done; None where there is something left to do.

    Raises
    ------
    UserError
        ``config`` may not run here: other settings, other files, or no permission; or what was done here is
        not as it was made.
    """
    place.check(config, fresh=fresh)
    if fresh:
        return None
    place.check_inputs(made_of)
    if not place.finished:
        return None
    check_made(place, MADE)
    return load_run(place.path).metrics


class Session:
    """What one process does in one directory."""

    def __init__(
        self, place: RunDirectory, instruments: Instruments, provenance: Provenance, progress: Progress
    ) -> None:
        self.place, self.instruments, self.progress = place, instruments, progress
        self.provenance = provenance
        self.stopwatch = Stopwatch(provenance.seconds)
        self.kept = Kept()

    @classmethod
    @contextmanager
    def open(
        cls,
        place: RunDirectory,
        config: RunConfig,
        made_of: MadeOf,
        instruments: Instruments,
        progress: Progress,
        *,
        fresh: bool,
    ) -> Iterator[Self]:
        """Hold the directory for this process, cleared if ``fresh``, with settings and provenance written.

        What `finished` has checked is checked again: another process may have written here since.
        """
        with lock(place.path):
            finished(place, config, made_of, fresh=fresh)
            if fresh:
                place.clear()
            place.tidy()
            earlier, device, settings = place.provenance(), _device(instruments), config.to_yaml()
            provenance = Provenance(
                schema_version=SCHEMA_VERSION,
                **describe_machine(device),
                config_sha256=sha256_of(settings.encode()),
                sha256=made_of(),
                seconds=earlier.seconds,  # of an earlier part of the same run
                unet_rows=earlier.unet_rows,
                **peak_memory(device, earlier),
            )
            session = cls(place, instruments, provenance, progress)
            session.note()
            atomic_write_text(place / CONFIG, settings)
            yield session

    def results(
        self,
        variants: "Sequence[pd.DataFrame]",
        measurement: Measurement,
        reference: "Callable[[], tuple[pd.DataFrame, dict[str, Tensor]] | None]",
        paint: Paint | None,
    ) -> Metrics:
        """Judge what was not judged yet, measure, paint, and mark the directory as finished."""
        records = self._records(variants, measurement, reference)
        with self.stage("metrics"):
            metrics = score_directory(self.place.path, records)
            atomic_write_json(self.place / METRICS, metrics.to_json())
        if paint:
            with self.stage("pictures"):
                paint(self.place.path, records, table(self.place / TRAINING_LOG), metrics)
        write_manifest(self.place, records["image"])
        atomic_write_json(self.place / STATUS, {"schema_version": SCHEMA_VERSION, "status": "finished"})
        return metrics

    def _records(
        self,
        variants: "Sequence[pd.DataFrame]",
        measurement: Measurement,
        reference: "Callable[[], tuple[pd.DataFrame, dict[str, Tensor]] | None]",
    ) -> "pd.DataFrame":
        """Judge every image and compare it with the original of the same noise; the records come last."""
        if all((self.place / name).exists() for name in (RECORDS, MEASUREMENT, FEATURES)):
            return read_records(self.place, read_config(self.place))
        with self.stage("judging"):
            records, features = record(
                variants, self.place.path, self.instruments, self.progress, self.kept.read
            )
            if referred := reference():
                atomic_write_table(self.place / REFERENCE, referred[0])
                features |= referred[1]
            atomic_write_tensors(self.place / FEATURES, features)
            atomic_write_json(self.place / MEASUREMENT, measurement.model_dump(mode="json"))
            atomic_write_table(self.place / RECORDS, records)
        self.kept = Kept()
        return records

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time one stage, and keep the time and the peak memory so far."""
        try:
            with self.stopwatch.stage(name):
                yield
        finally:
            peaks = peak_memory(_device(self.instruments), self.provenance)
            self.note(seconds=self.stopwatch.seconds, **peaks)

    def note(self, **facts: Any) -> None:
        """Add ``facts`` to the provenance, and write it."""
        self.provenance = self.provenance.model_copy(update=facts)
        atomic_write_json(self.place / PROVENANCE, self.provenance.to_json())


def _device(instruments: Instruments) -> str:
    """Return where the model is, or else what looks at images."""
    parts = (instruments.model, *instruments.all_judges, *instruments.features)
    return next((str(part.device) for part in parts if part and part.device), "cpu")
