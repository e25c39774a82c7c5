"""Measuring without training: any generator, images that are there, or a run as other judges see it.

What is written has the same form as a run.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairbench.attributes import AttributeSpace, TargetDistribution
from fairbench.config import RunConfig, make_config, spelled
from fairbench.errors import UserError
from fairbench.images.files import check_images
from fairbench.images.rows import KNOWN, ImageSet
from fairbench.images.sources import find_images
from fairbench.progress import Progress, nobody
from fairbench.records import ORIGINAL, SIMILARITIES, named
from fairbench.runs.inputs import contents
from fairbench.runs.instruments import load_observers, refuse_training_features, refuse_twins, used
from fairbench.runs.run import run
from fairbench.runs.session import Draw, Session
from fairbench.scoring.judging import Instruments
from fairbench.scoring.reference_images import find_reference, record_reference
from fairbench.storage import lock, sha256_of
from fairbench.store.layout import RunDirectory, default_directory
from fairbench.store.load import StoredRun, load_run, measurement_of
from fairbench.store.measurement import JudgeUsed, Measurement
from fairbench.suites import PromptSuite, load_suite

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

OWN = "own"
"""The suite of images that bring their prompts."""
Generate = Callable[[Sequence[str], Sequence[int]], Any]


def evaluate(
    generate: Generate | str,
    *,
    suite: str | Path = "occupations",
    name: str | None = None,
    out: Path | str | None = None,
    fresh: bool = False,
    progress: Progress = nobody,
    draw: Draw | None = None,
    **settings: Any,
) -> StoredRun:
    """Generate the images of a suite with any generator, and measure them.

    Parameters
    ----------
    generate
        From N prompts and N seeds to N images: N x 3 x H x W floats in [0, 1], N x H x W x 3 bytes, or a list
        of either or of Pillow images. Or the name of a model.
    suite
        The name of a prompt suite, or the path of its YAML file.
    name
        What results call the generator; its own name unless given. It stands for the generator: the same name
        in the same directory goes on with the images that are there.
    out
        Directory of the evaluation; below ``./runs`` if None.
    fresh
        Begin anew.
    progress
        Told ``(stage, done, total)``.
    draw
        Draws pictures from directory, records, training log and metrics.
    **settings
        Of `fairbench.config.RunConfig`: ``judges`` (needed unless the model brings its own), ``attributes``,
        ``target``, ``features``, ``images_per_prompt``, ``test_prompts``, ``seed``, ``until_width``.

    Returns
    -------
    What was stored, with ``records`` and ``metrics``.

    Raises
    ------
    UserError
        A setting is wrong, or what the generator returns are no images.
    """
    model = None if isinstance(generate, str) else _Generator(generate, name)
    config = make_config(
        settings | {"method": ORIGINAL, "model": model.name if model else generate, "suite": str(suite)}
    )
    place = Path(out) if out else default_directory(config)
    run(config, place, fresh=fresh, progress=progress, draw=draw, model=model)
    return load_run(place)


class _Generator:
    """Somebody's function as a model."""

    def __init__(self, function: Generate, name: str | None) -> None:
        self.function = function
        self.name = str(name or getattr(function, "__name__", type(function).__name__))
        if "<" in self.name:
            raise UserError("a function without a name needs one: give name=...")

    def generate(self, prompts: Sequence[str], seeds: Sequence[int], **_: Any) -> "Tensor":
        import torch

        images = self.function(list(prompts), list(seeds))
        if len(images) != len(prompts):
            raise UserError(
                f"{self.name} made {len(images)} images of {len(prompts)} prompts: make one of each"
            )
        parts = [self._image(image) for image in images]
        if len({part.shape for part in parts}) > 1:
            raise UserError(f"{self.name} made images of different sizes: make all of one size")
        return torch.stack(parts)

    def _image(self, image: Any) -> "Tensor":
        import numpy as np
        import torch

        array = image.detach().cpu().numpy() if isinstance(image, torch.Tensor) else np.asarray(image)
        if array.dtype == np.uint8 and array.ndim == 3 and array.shape[2] == 3:
            return torch.from_numpy(array.copy()).permute(2, 0, 1).float() / 255
        if array.dtype.kind == "f" and array.ndim == 3 and array.shape[0] == 3 and np.isfinite(array).all():
            return torch.from_numpy(array.astype(np.float32))
        raise UserError(
            f"{self.name} made {array.dtype} of shape {array.shape}: "
            "make 3 x H x W finite floats in [0, 1], or H x W x 3 bytes"
        )


def evaluate_images(
    config: RunConfig,
    out: Path | None = None,
    *,
    fresh: bool = False,
    progress: Progress = nobody,
    draw: Draw | None = None,
) -> dict[str, Any]:
    """Measure the images that ``config.images`` names: a folder, a table or a run; return the metrics.

    Raises
    ------
    UserError
        A setting is wrong, an image cannot be read, or ``out`` cannot hold this evaluation.
    """
    place = RunDirectory(out or default_directory(config))
    place.check(config, fresh=fresh)
    source, suite = Path(str(config.images)), None if config.suite == OWN else load_suite(config.suite)
    if config.draw_class and RunDirectory(source).finished:
        raise UserError(f"{source} is a run and says itself who chose the attributes: leave out --draw-class")
    seen = _run(source) if RunDirectory(source).finished else _found(source, suite, config.seed)
    given = seen.images
    made_of = cache(lambda: contents(config) | _images(source, suite, given))
    if not fresh:
        place.check_contents(made_of)
    if place.finished and not fresh:
        return load_run(place.path).metrics
    shown = set(given.variants[0]["prompt_id"])
    prompts = [prompt for prompt in suite.prompts(config.split) if prompt.id in shown] if suite else []
    space = AttributeSpace(config.attributes)
    instruments = load_observers(config, space, suite, prompts)
    measurement = _describe(config, seen, suite, instruments)
    check_images([Path(path) for rows in given.variants for path in rows["image"]])
    referred = find_reference(config, suite, instruments)

    def reference() -> "tuple[pd.DataFrame, dict[str, Tensor]] | None":
        each = given.variants[0].groupby("prompt_id").size().max()
        return record_reference(referred, suite, prompts, each, config.seed, instruments)

    with lock(place.path):
        if fresh:
            place.clear()
        session = Session(place, config, instruments, made_of(), progress)
        return session.results(given.variants, measurement, reference, draw)


@dataclass(frozen=True)
class _Seen:
    """Images that are there already, with who has looked at them before."""

    images: ImageSet
    judges: tuple[JudgeUsed, ...] = ()
    """What the records say already, in columns like those of a judge."""
    training_features: frozenset[str] = frozenset()
    """Sha256 of the feature networks that the method learnt from."""


def _found(source: Path, suite: PromptSuite | None, seed: int) -> _Seen:
    """Find the images of a folder or a table; its labels count like a judge."""
    images = find_images(source, suite, seed)
    known = dict(images.known)
    return _Seen(images, (JudgeUsed(name=KNOWN, attributes=known),) if known else ())


def _run(directory: Path) -> _Seen:
    """Take over the images of a finished run, and of the judges only the one that it learnt from."""
    run = load_run(directory)
    measurement = measurement_of(run)
    trainer = measurement.training_judge
    kept = [str(name) for name in run.records if _is_kept(str(name), trainer)]
    rows = run.records[kept].assign(
        image=[str((run.path / image).absolute()) for image in run.records["image"]]
    )
    variants = [part.reset_index(drop=True) for _, part in rows.groupby("variant", sort=False)]
    learnt = frozenset(run.provenance["sha256"].get("training_features", {}).values())
    images = ImageSet(tuple(variants), measurement.method, measurement.draw_class)
    return _Seen(images, (trainer,) if trainer else (), learnt)


def _is_kept(column: str, trainer: JudgeUsed | None) -> bool:
    if "/" not in column:
        return column not in SIMILARITIES
    return column.startswith((named(""), *([f"{trainer.name}/"] if trainer else [])))


def _images(source: Path, suite: PromptSuite | None, given: ImageSet) -> dict[str, str]:
    """Hash the prompts, the images, and the table that says more of them, where there is one."""
    hashes = {"suite": suite.sha256 if suite else given.prompts_sha256(), "images": given.sha256()}
    return hashes | ({"table": sha256_of(source)} if source.is_file() else {})


def _describe(
    config: RunConfig, seen: "_Seen", suite: PromptSuite | None, instruments: Instruments
) -> Measurement:
    """Write down what is known of the images; networks that a method learnt from must not evaluate it."""
    given = seen.images
    refuse_training_features(instruments.features, seen.training_features)
    judges = (*used(instruments), *seen.judges)
    trained = [judge for judge in seen.judges if judge.trained]
    for judge in judges:
        if not judge.trained and any(judge.is_a_copy_of(other) for other in trained):
            raise UserError(f"judge {judge.name} trained the method, so it cannot evaluate it: name another")
    refuse_twins([judge.name for judge in judges])
    if all(judge.trained for judge in judges):
        raise UserError(
            f"nothing judges {config.images}: name a judge with --judge, or give labels in a table"
        )
    space = AttributeSpace(config.attributes)
    for name in space.names:
        if name not in next(judge for judge in judges if not judge.trained).attributes:
            raise UserError(f"the labels of {config.images} say nothing of {name}: name a judge with --judge")
    return Measurement(
        method=given.method,
        draw_class=config.draw_class or given.draw_class,
        model=spelled(config.model, config.model_options),
        suite=suite.name if suite else config.suite,
        suite_sha256=suite.sha256 if suite else given.prompts_sha256(),
        measures=suite.measures if suite else "bias",
        attributes=space.names,
        target=TargetDistribution.parse(
            None if config.target == "uniform" else config.target, space
        ).probabilities,
        judges=judges,
        network=instruments.network,
        notes=tuple(_cut(given, instruments)),
    )


def _cut(given: ImageSet, instruments: Instruments) -> Iterator[str]:
    """Say of how many prompts CLIP-T reads the beginning only."""
    prompts = given.variants[0]["prompt"].unique()
    for network in instruments.features:
        if count := sum(network.too_long(prompt) for prompt in prompts):
            yield f"CLIP-T: {network.name} reads the beginning only of {count} of {len(prompts)} prompts"
