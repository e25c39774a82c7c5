"""A run from its settings to its stored results, stage by stage; what is done is kept, so a run can go on.

original images -> finetuning -> debiased images of the same noise -> records -> metrics -> pictures -> status
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairbench.config import RunConfig
from fairbench.draws import Draw
from fairbench.errors import UserError
from fairbench.finetuning.processes import Processes
from fairbench.images.rows import ImageSet, planned
from fairbench.intervention import Intervention, part
from fairbench.intervention_files import load_intervention, save_intervention
from fairbench.progress import Progress, nobody
from fairbench.records import ORIGINAL
from fairbench.runs.adaptive import Adaptive
from fairbench.runs.generation import adopt, generate_with
from fairbench.runs.inputs import input_hashes
from fairbench.runs.instruments import check_fit, describe, load_instruments
from fairbench.runs.plan import Plan, make_plan
from fairbench.runs.session import Paint, Session, finished
from fairbench.runs.training import RowMeter, TrainingLog, Watch, fit_context
from fairbench.scoring.reference_images import check_reference, record_reference
from fairbench.storage import atomic_write_table, explained
from fairbench.store.layout import TRAINING_LOG, RunDirectory, default_directory
from fairbench.store.load import load_run
from fairbench.store.results import InputHashes, Metrics, Sequential

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor


def run(
    config: RunConfig | Plan,
    out: Path | None = None,
    *,
    fresh: bool = False,
    progress: Progress = nobody,
    paint: Paint | None = None,
    model: Any | None = None,
    originals: Sequence[Path] = (),
    warn: Callable[[str], None] = lambda message: None,
) -> Metrics:
    """Debias a model and measure it before and after; return the metrics.

    Everything is checked before anything is written. The same call again goes on where an interrupted one
    stopped, and returns at once when the run is done. Of several processes (``accelerate launch``) the first
    does all this, and the others take part in the finetuning.

    Parameters
    ----------
    config
        What to compute, or what is planned of it already.
    out
        Directory of the run; below ``./runs`` if None.
    fresh
        Begin anew and replace the run that is in ``out``.
    progress
        Told ``(stage, done, total)`` as the run goes.
    paint
        Draws the pictures.
    model
        Takes the place of the one that ``config`` names.
    originals
        Runs of the same model, prompts and noise, whose images of the original model may be taken over.
    warn
        Told in a line of what goes wrong while the method trains.

    Raises
    ------
    UserError
        A setting is wrong, or ``out`` cannot hold this run.
    """
    plan = config if isinstance(config, Plan) else _planned(config)
    place, processes = RunDirectory(out or default_directory(plan.config)), Processes()
    if not processes.first:
        return _help(plan, place, processes, model)
    made_of = cache(partial(_made_of, plan, model))
    if (metrics := finished(place, plan.config, made_of, fresh=fresh)) is None:
        instruments = load_instruments(plan, model)
        check_fit(plan, instruments, place.training)
        referred = check_reference(plan.reference, plan.suite, instruments)
        with Session.open(place, plan.config, made_of, instruments, progress, fresh=fresh) as session:
            stages = _Stages(plan, session, referred, warn)
            stages.take_over([*filter(place.same_original, originals)])
            metrics = stages.to_the_end(paint)
    processes.call(False)
    return metrics


def _planned(config: RunConfig) -> Plan:
    if config.images:
        raise UserError(f"{config.images} holds the images already: use fairbench evaluate --images")
    return make_plan(config)


def _made_of(plan: Plan, model: Any | None) -> InputHashes:
    return input_hashes(
        plan.config,
        trains=plan.trains,
        model=model,
        reference=plan.reference,
        faces=plan.real_faces if plan.trains else None,
        others={"suite": plan.suite.sha256},
    )


def _help(plan: Plan, place: RunDirectory, processes: Processes, model: Any | None) -> Metrics:
    """Take part in the training of the first process, which does everything else, until it is done."""
    instruments = load_instruments(plan, model)
    while processes.called():
        plan.method.fit(fit_context(plan, instruments, place.training, lambda row: None))
    return load_run(place.path).metrics


class _Stages:
    """The stages of one run, in the order in which they are written here."""

    def __init__(
        self, plan: Plan, session: Session, referred: ImageSet | None, warn: Callable[[str], None]
    ) -> None:
        self.plan, self.session, self.referred, self.warn = plan, session, referred, warn
        self.place, self.progress = session.place, session.progress
        self.model = session.instruments.model
        self.sequential: Sequential | None = None

    def to_the_end(self, paint: Paint | None) -> Metrics:
        """Go through all stages, in each doing only what is missing."""
        variants = [self.original_images()]
        if self.plan.trains:
            variants.append(self.debiased_images(self.intervention()))
        shutil.rmtree(self.place.training, ignore_errors=True)
        measurement = describe(self.plan, self.session.instruments, self.sequential)
        return self.session.results(variants, measurement, self.reference, paint)

    def take_over(self, others: Sequence[Path]) -> None:
        """Take over the original images that other runs hold, and what one of them cost."""
        adopt(self.rows(ORIGINAL, "original"), self.place.path, others)
        counted = [RunDirectory(other).provenance().unet_rows.per_image for other in others]
        spent = [rows[ORIGINAL] for rows in counted if ORIGINAL in rows]
        if spent and ORIGINAL not in self.session.provenance.unet_rows.per_image:
            self._count(ORIGINAL, spent[0])

    def original_images(self) -> "pd.DataFrame":
        """Generate the test images of the model as it is; return their rows."""
        if width := self.plan.config.until_width:
            return self._until(width)
        return self._images(self.rows(ORIGINAL, "original"), "original images")

    def _until(self, width: float) -> "pd.DataFrame":
        """Generate images of the model as it is until the gap is known so well."""
        adaptive = Adaptive(
            self.plan, self.place, self.session.instruments, self._generate, self.session.kept.read
        )
        with self.session.stage("original images"):
            rows = adaptive.until(width, lambda now: self._narrow(width / now))
        self.sequential = adaptive.report(width)
        return rows

    def _narrow(self, share: float) -> None:
        self.progress("narrowing", min(int(100 * share), 100), 100)

    def intervention(self) -> Intervention:
        """Return what is to be applied: what is given, what was learnt before, or what is learnt now."""
        if self.place.adapter.exists():  # there only when complete
            return load_intervention(self.place.adapter)
        return self._keep(self.plan.adapter or self.finetuning())

    def finetuning(self) -> Intervention:
        """Fit the method."""
        plan = self.plan
        log = TrainingLog(self.place.training / "log.jsonl")
        watch = Watch(log, plan.config.stop_on, self.warn)
        meter = RowMeter(lambda: self.model.unet_rows)

        def tell(row: dict[str, Any]) -> bool:
            meter.tell(row)
            self.progress("finetuning", int(row["update"]), plan.updates)
            return watch(row)

        context = fit_context(plan, self.session.instruments, self.place.training, tell)
        if part(plan.method, "several_processes"):
            Processes().call(True)
        with self.session.stage("finetuning"):
            self.progress("finetuning", 0, plan.updates)
            learnt = plan.method.fit(context)
            table = log.table()
            atomic_write_table(self.place / TRAINING_LOG, table)
            counted = self.session.provenance.unet_rows
            self.session.note(unet_rows=counted.model_copy(update={"training": meter.total(table)}))
        return replace(learnt, settings=context.description() | learnt.settings)

    def _keep(self, intervention: Intervention) -> Intervention:
        """Put what is to be applied in its place, whole or not at all."""
        save_intervention(intervention, self.place.training / "adapter")
        with explained(self.place.adapter):
            (self.place.training / "adapter").rename(self.place.adapter)
        return intervention

    def debiased_images(self, intervention: Intervention) -> "pd.DataFrame":
        """Generate the same test images, from the same noise, with the method applied; return their rows."""
        plan, rows = self.plan, self.rows(self.plan.config.method, "debiased")
        pairs = zip(rows["prompt_id"], rows["seed"], strict=True)
        draw = Draw.make(plan.space, plan.target, plan.config.draw, pairs)
        if plan.method.draw_class == "drawn":
            rows["drawn"] = [plan.space.labels[k] for k in draw(rows["seed"].tolist())]
        with plan.method.apply(intervention, self.model, draw) as hooks:
            return self._images(rows, "debiased images", hooks=hooks)

    def reference(self) -> "tuple[pd.DataFrame, dict[str, Tensor]] | None":
        """Look at the reference images: those that are named, or as many of each prompt."""
        plan, count, seed = self.plan, self.plan.config.images_per_prompt, self.plan.config.seed
        return record_reference(self.referred, plan.suite, plan.test, count, seed, self.session.instruments)

    def rows(self, variant: str, folder: str) -> "pd.DataFrame":
        """List the images of one variant."""
        config = self.plan.config
        return planned(
            variant, folder, self.plan.suite, self.plan.test, config.images_per_prompt, config.seed
        )

    def _images(self, rows: "pd.DataFrame", stage: str, **options: Any) -> "pd.DataFrame":
        with self.session.stage(stage):
            self._generate(rows, lambda done: self.progress(stage, done, len(rows)), **options)
        return rows

    def _generate(
        self, rows: "pd.DataFrame", tell: Callable[[int], None] = lambda done: None, **options: Any
    ) -> None:
        config, kept = self.plan.config, self.session.kept
        options |= {"steps": config.steps, "guidance": config.guidance}
        count = partial(self._count, str(rows["variant"].iloc[0]))
        generate_with(self.model, rows, self.place.path, tell, kept=kept, count=count, **options)

    def _count(self, variant: str, rows: float) -> None:
        """Note the U-Net's rows for one image."""
        counted = self.session.provenance.unet_rows
        if counted.per_image.get(variant) != rows:
            per_image = counted.per_image | {variant: rows}
            self.session.note(unet_rows=counted.model_copy(update={"per_image": per_image}))
