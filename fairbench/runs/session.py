"""The second half of every run and evaluation: from images to stored records, numbers and pictures.

Each stage is timed, and does only what an interrupted one has left.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairbench.config import RunConfig
from fairbench.progress import Progress
from fairbench.runs.generation import Kept
from fairbench.scoring.judging import Instruments, record
from fairbench.scoring.score import score_directory, table
from fairbench.storage import (
    atomic_write_json,
    atomic_write_table,
    atomic_write_tensors,
    atomic_write_yaml,
)
from fairbench.store.layout import RunDirectory
from fairbench.store.measurement import MEASUREMENT, SCHEMA_VERSION, Measurement
from fairbench.store.provenance import Stopwatch, describe_machine, peak_memory

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

Draw = Callable[[Path, "pd.DataFrame", "pd.DataFrame | None", dict[str, Any]], None]
"""Draws pictures from directory, records, training log and metrics; the report is a floor above."""
Reference = Callable[[], "tuple[pd.DataFrame, dict[str, Tensor]] | None"]


class Session:
    """One directory at work."""

    def __init__(
        self,
        place: RunDirectory,
        config: RunConfig,
        instruments: Instruments,
        hashes: dict[str, Any],
        progress: Progress,
    ) -> None:
        self.place, self.instruments, self.progress = place, instruments, progress
        self.provenance = self._begin(config, hashes)
        self.watch = Stopwatch(self.provenance.get("seconds"))
        self.kept = Kept()

    def results(
        self,
        variants: "Sequence[pd.DataFrame]",
        measurement: Measurement,
        reference: Reference,
        draw: Draw | None,
    ) -> dict[str, Any]:
        """Judge what was not judged yet, measure, draw, and mark the directory as finished."""
        records = self._records(variants, measurement, reference)
        with self._stage("metrics"):
            metrics = score_directory(self.place.path, records)
            atomic_write_json(self.place / "metrics.json", metrics)
        if draw:
            with self._stage("pictures"):
                draw(self.place.path, records, self.training_table(), metrics)
        atomic_write_json(
            self.place / "status.json", {"schema_version": SCHEMA_VERSION, "status": "finished"}
        )
        return metrics

    def training_table(self) -> "pd.DataFrame | None":
        """Return the training log as a table, ``None`` where nothing was trained."""
        return table(self.place / "training.parquet")

    def _records(
        self, variants: "Sequence[pd.DataFrame]", measurement: Measurement, reference: Reference
    ) -> "pd.DataFrame":
        """Judge every image and compare it with the original of the same noise; the records come last."""
        import pandas as pd

        path = self.place / "records.parquet"
        if path.is_file() and (self.place / MEASUREMENT).is_file():
            return pd.read_parquet(path)
        with self._stage("judging"):
            records, features = record(
                variants, self.place.path, self.instruments, self.progress, self.kept.read
            )
            if referred := reference():
                atomic_write_table(self.place / "reference.parquet", referred[0])
                features |= referred[1]
            atomic_write_tensors(self.place / "features.safetensors", features)
            atomic_write_json(self.place / MEASUREMENT, measurement.model_dump(mode="json"))
            atomic_write_table(path, records)
        self.kept = Kept()
        return records

    def _begin(self, config: RunConfig, hashes: dict[str, Any]) -> dict[str, Any]:
        """Write the settings and where the run comes from; keep the times of an earlier part of it."""
        earlier = self.place.provenance()
        provenance = {
            "schema_version": SCHEMA_VERSION,
            **describe_machine(_device(self.instruments)),
            "sha256": hashes,
            "seconds": earlier.get("seconds", {}),
            "unet_rows": earlier.get("unet_rows", {}),
            **peak_memory(_device(self.instruments), earlier),
        }
        atomic_write_json(self.place / "provenance.json", provenance)
        atomic_write_yaml(self.place / "config.yaml", config.model_dump(mode="json"))
        return provenance

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        """Time one stage, and keep the time and the peak memory so far."""
        try:
            with self.watch.stage(name):
                yield
        finally:
            self._note_costs()

    def _note_costs(self) -> None:
        self.provenance["seconds"] = self.watch.seconds
        self.provenance |= peak_memory(_device(self.instruments), self.provenance)
        atomic_write_json(self.place / "provenance.json", self.provenance)


def _device(instruments: Instruments) -> str:
    """Return where the model is, or else what looks at images."""
    parts = (instruments.model, *instruments.all_judges, *instruments.features)
    return str(next((part.device for part in parts if hasattr(part, "device")), "cpu"))
