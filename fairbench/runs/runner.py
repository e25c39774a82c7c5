"""A run from its settings to its stored results, stage by stage; what is done is kept, so a run can go on.

original images -> finetuning -> debiased images of the same noise -> records -> metrics -> pictures -> status
"""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from fairbench import draws
from fairbench.config import RunConfig
from fairbench.intervention import FitContext, Intervention
from fairbench.runs.directory import RunDirectory, default_directory
from fairbench.runs.evaluation import measure
from fairbench.runs.images import generate_missing, generator
from fairbench.runs.instruments import Instruments, load_instruments
from fairbench.runs.plan import Plan, make_plan
from fairbench.runs.provenance import Stopwatch, describe_machine, peak_memory
from fairbench.runs.records import planned, record
from fairbench.runs.registry import ORIGINAL
from fairbench.runs.training_faces import training_faces
from fairbench.runs.training_log import TrainingLog
from fairbench.runs.watch import Watch, told_at_the_end
from fairbench.storage import (
    atomic_write_json,
    atomic_write_table,
    atomic_write_tensors,
    atomic_write_yaml,
    lock,
)

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

    from fairbench.judges import Judge

Progress = Callable[[str, int, int], None]
"""Told ``(stage, done, total)``."""
Draw = Callable[[Path, "pd.DataFrame", "pd.DataFrame | None", dict[str, Any]], None]
"""Draws pictures from directory, records, training log and metrics; the report is a floor above."""

SCHEMA_VERSION = 1


def run(
    config: RunConfig,
    out: Path | None = None,
    *,
    fresh: bool = False,
    progress: Progress = lambda stage, done, total: None,
    draw: Draw | None = None,
    warn: Callable[[str], None] = lambda message: None,
) -> dict[str, Any]:
    """Debias a model and measure it before and after; return the metrics.

    Everything is checked before anything is written. The same call again goes on where an interrupted one
    stopped, and returns at once when the run is done.

    Parameters
    ----------
    config
        What to compute.
    out
        Directory of the run; below ``./runs`` if None.
    fresh
        Begin anew and replace the run that is in ``out``.
    progress
        Told ``(stage, done, total)`` as the run goes.
    draw
        Draws the pictures.
    warn
        Told in a line of what goes wrong while the method trains.

    Raises
    ------
    UserError
        A setting is wrong, or ``out`` cannot hold this run.
    """
    plan = make_plan(config)
    place = RunDirectory(out or default_directory(config))
    place.check(config, fresh=fresh)
    if place.finished and not fresh:
        return json.loads((place / "metrics.json").read_text(encoding="utf-8"))
    instruments = load_instruments(plan)
    with lock(place.path):
        if fresh:
            place.clear()
        return _Run(plan, place, instruments, progress, warn).to_the_end(draw)


class _Run:
    """The stages of one run, in the order in which they are written here."""

    def __init__(
        self,
        plan: Plan,
        place: RunDirectory,
        instruments: Instruments,
        progress: Progress,
        warn: Callable[[str], None],
    ) -> None:
        self.plan, self.place, self.instruments = plan, place, instruments
        self.progress, self.warn = progress, warn
        self.provenance = self._begin()
        self.watch = Stopwatch(self.provenance.get("seconds"))

    def to_the_end(self, draw: Draw | None) -> dict[str, Any]:
        """Go through all stages, in each doing only what is missing."""
        variants = [self.original_images()]
        if self.plan.trains:
            intervention = self.finetuning()
            variants.append(self.debiased_images(intervention))
        records, features = self.records(variants)
        metrics = self.metrics(records, features)
        if draw:
            with self._stage("pictures"):
                draw(self.place.path, records, self.training_table(), metrics)
        shutil.rmtree(self.place.training, ignore_errors=True)
        atomic_write_json(
            self.place / "status.json", {"schema_version": SCHEMA_VERSION, "status": "finished"}
        )
        return metrics

    def original_images(self) -> "pd.DataFrame":
        """Generate the test images of the model as it is; return their rows."""
        return self._images(self._rows(ORIGINAL, "original"), "original images", None)

    def finetuning(self) -> Intervention:
        """Fit the method, or load what it produced before; the adapter is there only when complete."""
        if self.place.adapter.is_dir():
            return Intervention.load(self.place.adapter)
        plan, instruments = self.plan, self.instruments
        log = TrainingLog(self.place.training / "log.jsonl")

        watch = Watch(log, plan.config.stop_on, self.warn)

        def tell(row: dict[str, Any]) -> bool:
            self.progress("finetuning", int(row["update"]), plan.updates)
            return watch(row)

        context = FitContext(
            model=instruments.model,
            prompts=list(plan.training),
            space=plan.space,
            target=plan.target,
            judge=cast("Judge", instruments.training_judge),
            features=list(instruments.training_features),
            updates=plan.updates,
            seed=plan.config.seed,
            directory=self.place.training,
            suite=plan.suite.name,
            suite_version=plan.suite.version,
            log=tell,
            faces=training_faces(plan.config.model, instruments.training_features, plan.training),
        )
        with self._stage("finetuning"):
            self.progress("finetuning", 0, plan.updates)
            intervention = plan.method.fit(context)
            atomic_write_table(self.place / "training.parquet", log.table())
            intervention.save(self.place.training / "adapter")
            (self.place.training / "adapter").rename(self.place.adapter)
        return intervention

    def debiased_images(self, intervention: Intervention) -> "pd.DataFrame":
        """Generate the same test images, from the same noise, with the method applied; return their rows."""
        plan, rows = self.plan, self._rows(self.plan.config.method, "debiased")
        pairs = zip(rows["prompt_id"], rows["seed"], strict=True)
        drawn = draws.Draw.make(plan.space, plan.target, plan.config.draw, pairs)
        if plan.method.draw_class == "drawn":
            rows["drawn"] = [plan.space.labels[k] for k in drawn(rows["seed"])]
        with plan.method.apply(intervention, self.instruments.model, drawn) as hooks:
            return self._images(rows, "debiased images", hooks)

    def records(self, variants: list["pd.DataFrame"]) -> "tuple[pd.DataFrame, dict[str, Tensor]]":
        """Judge every image and compare it with the original of the same noise."""
        import pandas as pd
        from safetensors.torch import load

        path, beside = self.place / "records.parquet", self.place / "features.safetensors"
        if path.is_file():
            return pd.read_parquet(path), load(beside.read_bytes())
        with self._stage("judging"):
            records, features = record(variants, self.place.path, self.instruments, self.progress)
            atomic_write_tensors(beside, features)
            atomic_write_table(path, records)
        return records, features

    def metrics(self, records: "pd.DataFrame", features: "dict[str, Tensor]") -> dict[str, Any]:
        """Turn the records into numbers."""
        with self._stage("metrics"):
            metrics = measure(records, features, self.plan, self.instruments)
            if self.plan.trains:
                log, stop_on = self.training_table(), self.plan.config.stop_on
                metrics = told_at_the_end(log, metrics, self.plan.updates, stop_on)
            atomic_write_json(self.place / "metrics.json", metrics)
        return metrics

    def training_table(self) -> "pd.DataFrame | None":
        """Return the training log as a table, ``None`` where nothing was trained."""
        import pandas as pd

        path = self.place / "training.parquet"
        return pd.read_parquet(path) if path.is_file() else None

    def _begin(self) -> dict[str, Any]:
        """Write the settings and where the run comes from; keep the times of an earlier part of it."""
        path = self.place / "provenance.json"
        earlier = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        device = str(getattr(self.instruments.model, "device", "cpu"))
        provenance = {
            "schema_version": SCHEMA_VERSION,
            **describe_machine(device),
            "sha256": {"suite": self.plan.suite.sha256, **self.instruments.hashes()},
            "seconds": earlier.get("seconds", {}),
            "peak_memory_bytes": earlier.get("peak_memory_bytes", 0),
        }
        atomic_write_json(path, provenance)
        atomic_write_yaml(self.place / "config.yaml", self.plan.config.model_dump(mode="json"))
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
        self.provenance["peak_memory_bytes"] = max(peak_memory(), self.provenance["peak_memory_bytes"])
        atomic_write_json(self.place / "provenance.json", self.provenance)

    def _rows(self, variant: str, folder: str) -> "pd.DataFrame":
        config = self.plan.config
        return planned(
            variant, folder, self.plan.suite, self.plan.test, config.images_per_prompt, config.seed
        )

    def _images(self, rows: "pd.DataFrame", stage: str, hooks: Any) -> "pd.DataFrame":
        config = self.plan.config
        generate = generator(
            self.instruments.model, steps=config.steps, guidance=config.guidance, hooks=hooks
        )
        with self._stage(stage):
            generate_missing(
                generate, rows, self.place.path, lambda done: self.progress(stage, done, len(rows))
            )
        return rows
