"""A run from its settings to its stored results, stage by stage; what is done is kept, so a run can go on.

original images -> finetuning -> debiased images of the same noise -> records -> metrics -> pictures -> status
"""

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairbench import draws
from fairbench.config import RunConfig
from fairbench.errors import Unsupported, UserError
from fairbench.finetuning.processes import Processes
from fairbench.images.files import check_images
from fairbench.images.rows import ImageSet, planned
from fairbench.images.sources import real_faces
from fairbench.intervention import Intervention
from fairbench.intervention_files import load_intervention, save_intervention
from fairbench.progress import Progress, nobody
from fairbench.records import ORIGINAL
from fairbench.runs.adaptive import Adaptive
from fairbench.runs.generation import BATCH, adopt, generate_missing, generator
from fairbench.runs.inputs import contents
from fairbench.runs.instruments import describe, load_instruments
from fairbench.runs.plan import Plan, make_plan
from fairbench.runs.session import Draw, Session
from fairbench.runs.training import TrainingLog, Watch, fit_context, help_to_fit
from fairbench.scoring.judging import Instruments
from fairbench.scoring.reference_images import find_reference, record_reference
from fairbench.storage import atomic_write_table, lock
from fairbench.store.layout import RunDirectory, default_directory
from fairbench.store.load import load_run

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor


def run(
    config: RunConfig,
    out: Path | None = None,
    *,
    fresh: bool = False,
    progress: Progress = nobody,
    draw: Draw | None = None,
    model: Any | None = None,
    originals: Sequence[Path] = (),
    warn: Callable[[str], None] = lambda message: None,
) -> dict[str, Any]:
    """Debias a model and measure it before and after; return the metrics.

    Everything is checked before anything is written. The same call again goes on where an interrupted one
    stopped, and returns at once when the run is done. Of several processes (``accelerate launch``) the first
    does all this, and the others take part in the finetuning.

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
    if config.images:
        raise UserError(f"{config.images} holds the images already: use fairbench evaluate --images")
    plan = make_plan(config)
    place = RunDirectory(out or default_directory(config))
    processes = Processes()
    if not processes.first:
        help_to_fit(plan, load_instruments(plan, model), place.training, processes)
        return load_run(place.path).metrics
    given = _given_adapter(plan)
    place.check(config, fresh=fresh)
    made_of = cache(lambda: contents(config, trains=plan.trains, model=model) | {"suite": plan.suite.sha256})
    if not fresh:
        place.check_contents(made_of)
    if place.finished and not fresh:
        processes.call(False)
        return load_run(place.path).metrics
    instruments = load_instruments(plan, model)
    _check(plan, given, instruments, place)
    referred = find_reference(config, plan.suite, instruments)
    with lock(place.path):
        if fresh:
            place.clear()
        session = _Run(plan, place, instruments, made_of(), referred, progress, warn)
        if given and not place.adapter.is_dir():
            session.keep(given)
        session.take_over([*filter(place.same_original, originals)])
        metrics = session.to_the_end(draw)
    processes.call(False)
    return metrics


def _given_adapter(plan: Plan) -> Intervention | None:
    """Load the intervention to be applied instead of finetuning, if there is one."""
    if plan.config.adapter is None:
        return None
    given = load_intervention(plan.config.adapter)
    if given.method != plan.config.method:
        raise UserError(f"{plan.config.adapter} is of {given.method}, not of {plan.config.method}")
    balanced = tuple(given.settings.get("attributes", plan.space.names))
    if given.draw_class != "emergent" and balanced != plan.space.names:  # its classes are drawn by number
        raise UserError(
            f"{plan.config.adapter} balances {', '.join(balanced)}: "
            f"give --attributes {','.join(balanced)}, or leave it out"
        )
    return given


def _check(plan: Plan, given: Intervention | None, instruments: Instruments, place: RunDirectory) -> None:
    """Raise a ``UserError`` where the method cannot be fitted here, or ``given`` not be applied."""
    if given:
        with plan.method.apply(given, instruments.model, draws.Draw.make(plan.space, plan.target)):
            pass
        return
    if faces := real_faces(plan.config.real_faces):
        check_images([Path(path) for path in faces.variants[-1]["image"]])
    if hasattr(plan.method, "check_fit"):
        context = fit_context(plan, instruments, place.training, lambda row: None)
        try:
            plan.method.check_fit(context)
        except UserError as error:
            raise Unsupported(str(error)) from error


class _Run(Session):
    """The stages of one run, in the order in which they are written here."""

    def __init__(
        self,
        plan: Plan,
        place: RunDirectory,
        instruments: Instruments,
        hashes: dict[str, Any],
        referred: ImageSet | None,
        progress: Progress,
        warn: Callable[[str], None],
    ) -> None:
        super().__init__(place, plan.config, instruments, hashes, progress)
        self.plan, self.referred, self.warn = plan, referred, warn
        self.unet_rows: dict[str, Any] = self.provenance["unet_rows"]
        self.sequential: dict[str, Any] | None = None

    def to_the_end(self, draw: Draw | None) -> dict[str, Any]:
        """Go through all stages, in each doing only what is missing."""
        variants = [self.original_images()]
        if self.plan.trains:
            intervention = self.finetuning()
            variants.append(self.debiased_images(intervention))
        shutil.rmtree(self.place.training, ignore_errors=True)
        measurement = describe(self.plan, self.instruments, self.sequential)
        return self.results(variants, measurement, self.reference, draw)

    def take_over(self, others: Sequence[Path]) -> None:
        """Take over the original images that other runs hold, and what one of them cost."""
        adopt(self.rows(ORIGINAL, "original"), self.place.path, others)
        counted = (RunDirectory(other).provenance().get("unet_rows", {}) for other in others)
        spent = [rows["per_image"][ORIGINAL] for rows in counted if ORIGINAL in rows.get("per_image", {})]
        if spent:
            self.unet_rows.setdefault("per_image", {}).setdefault(ORIGINAL, spent[0])

    def original_images(self) -> "pd.DataFrame":
        """Generate the test images of the model as it is; return their rows."""
        if width := self.plan.config.until_width:
            return self._until(width)
        return self._images(self.rows(ORIGINAL, "original"), "original images", None)

    def _until(self, width: float) -> "pd.DataFrame":
        """Generate images of the model as it is until the gap is known so well."""
        adaptive = Adaptive(self.plan, self.place, self.instruments, self._generate, self.kept.read)
        with self._stage("original images"):
            rows = adaptive.until(width, lambda now: self._narrow(width / now))
        self.sequential = adaptive.report(width)
        return rows

    def _narrow(self, share: float) -> None:
        self.progress("narrowing", min(int(100 * share), 100), 100)

    def finetuning(self) -> Intervention:
        """Fit the method, or load what it produced before; the adapter is there only when complete."""
        if self.place.adapter.is_dir():
            return load_intervention(self.place.adapter)
        plan = self.plan
        log = TrainingLog(self.place.training / "log.jsonl")
        watch = Watch(log, plan.config.stop_on, self.warn)

        def tell(row: dict[str, Any]) -> bool:
            self.progress("finetuning", int(row["update"]), plan.updates)
            return watch(row)

        context = fit_context(plan, self.instruments, self.place.training, tell)
        if getattr(plan.method, "several_processes", False):
            Processes().call(True)
        with self._stage("finetuning"):
            self.progress("finetuning", 0, plan.updates)
            with self._training_rows():
                learnt = plan.method.fit(context)
            intervention = replace(learnt, settings=context.description() | learnt.settings)
            atomic_write_table(self.place / "training.parquet", log.table())
            self.keep(intervention)
        return intervention

    def keep(self, intervention: Intervention) -> None:
        """Put what is to be applied in its place, whole or not at all."""
        save_intervention(intervention, self.place.training / "adapter")
        (self.place.training / "adapter").rename(self.place.adapter)

    def debiased_images(self, intervention: Intervention) -> "pd.DataFrame":
        """Generate the same test images, from the same noise, with the method applied; return their rows."""
        plan, rows = self.plan, self.rows(self.plan.config.method, "debiased")
        pairs = zip(rows["prompt_id"], rows["seed"], strict=True)
        drawn = draws.Draw.make(plan.space, plan.target, plan.config.draw, pairs)
        if plan.method.draw_class == "drawn":
            rows["drawn"] = [plan.space.labels[k] for k in drawn(rows["seed"].tolist())]
        with plan.method.apply(intervention, self.instruments.model, drawn) as hooks:
            return self._images(rows, "debiased images", hooks)

    def reference(self) -> "tuple[pd.DataFrame, dict[str, Tensor]] | None":
        """Look at the reference images: those that are named, or as many of each prompt."""
        plan, count, seed = self.plan, self.plan.config.images_per_prompt, self.plan.config.seed
        return record_reference(self.referred, plan.suite, plan.test, count, seed, self.instruments)

    def rows(self, variant: str, folder: str) -> "pd.DataFrame":
        """List the images of one variant."""
        config = self.plan.config
        return planned(
            variant, folder, self.plan.suite, self.plan.test, config.images_per_prompt, config.seed
        )

    def _images(self, rows: "pd.DataFrame", stage: str, hooks: Any) -> "pd.DataFrame":
        with self._stage(stage):
            self._generate(rows, hooks, lambda done: self.progress(stage, done, len(rows)))
        return rows

    def _generate(
        self, rows: "pd.DataFrame", hooks: Any = None, tell: Callable[[int], None] = lambda done: None
    ) -> None:
        config, model = self.plan.config, self.instruments.model
        generate = generator(model, steps=config.steps, guidance=config.guidance, hooks=hooks)
        before = _unet_rows(model)
        made = generate_missing(
            generate,
            rows,
            self.place.path,
            tell,
            at_once=partial(_at_once, model),
            kept=self.kept,
        )
        if made and (spent := _unet_rows(model) - before):
            self.unet_rows.setdefault("per_image", {})[str(rows["variant"].iloc[0])] = spent / made

    @contextmanager
    def _training_rows(self) -> Iterator[None]:
        """Count the U-Net's rows also of a training that is interrupted."""
        before = _unet_rows(self.instruments.model)
        try:
            yield
        finally:
            spent = _unet_rows(self.instruments.model) - before
            self.unet_rows["training"] = self.unet_rows.get("training", 0) + spent


def _at_once(model: Any) -> int:
    """Return how many images a pipeline makes in one pass; anything else is not asked."""
    from fairbench.models.text_to_image import TextToImage

    return model.images_at_once if isinstance(model, TextToImage) else BATCH


def _unet_rows(model: Any) -> int:
    """Return the count of a pipeline; 0 for anything else that generates."""
    return getattr(model, "unet_rows", 0)
