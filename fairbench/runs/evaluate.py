"""Measuring images that are there: of any generator, or of a run as other judges see it.

What is written has the same form as a run.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from fairbench.attributes import AttributeSpace, TargetDistribution
from fairbench.config import RunConfig, make_config, spelled
from fairbench.errors import UserError
from fairbench.images.files import check_images
from fairbench.images.rows import KNOWN, ImageSet
from fairbench.images.sources import find_images, referred_images
from fairbench.progress import Progress, nobody
from fairbench.records import ORIGINAL, SIMILARITIES, named
from fairbench.runs.family import of_the_family
from fairbench.runs.inputs import input_hashes
from fairbench.runs.instruments import load_observers, refuse_training_features, refuse_twins, used
from fairbench.runs.run import run as to_the_end
from fairbench.runs.session import Paint, Session, finished
from fairbench.scoring.judging import Instruments
from fairbench.scoring.reference_images import check_reference, record_reference
from fairbench.storage import sha256_of
from fairbench.store.layout import ADAPTER, IMAGES, RunDirectory, default_directory
from fairbench.store.load import load_run, measurement_of
from fairbench.store.manifest import check_made
from fairbench.store.measurement import JudgeUsed, Measurement
from fairbench.store.results import InputHashes, Metrics
from fairbench.suites import Prompt, PromptSuite, load_suite

OWN = "own"
"""The suite of images that bring their prompts."""
GENERATING = ("images_per_prompt", "test_prompts", "until_width", "steps", "guidance")
"""What only a model that makes images has a use for."""


def evaluation(
    run: Path | None, named: Mapping[str, Any], images: Path | None, given: dict[str, Any]
) -> RunConfig:
    """Put together what is asked for; one of a run, a model and images is measured.

    Parameters
    ----------
    run, images
        What is there already.
    named
        ``model`` with its options; for given images, what made them.
    given
        All other settings that are not left to their defaults.

    Raises
    ------
    UserError
        Two of them are given, the run is not finished, or something would be ignored.
    """
    if run is not None and (named or images is not None):
        raise UserError("give a run, or --model, or --images, not two of them")
    if run is not None:
        return make_config(_of_a_run(run, given))
    if images is None:
        return make_config({"method": ORIGINAL, **named, **given})
    _generates_nothing(given, "--images has them")
    named = named or {"model": _called_after(images)}
    return make_config({"method": ORIGINAL, "images": str(images), "suite": OWN, **named, **given})


def _generates_nothing(given: Mapping[str, Any], why: str) -> None:
    """Refuse what would be ignored where the images are there."""
    for key in GENERATING:
        if key in given:
            raise UserError(f"--{key.replace('_', '-')} is for making images, and {why}: leave it out")


def _called_after(images: Path) -> str:
    """Name what made the images after their folder, but never like a model that brings judges of its own."""
    place = images.absolute()
    name = place.stem if place.is_file() else place.name  # sd-1.4 is a folder
    return f"images of {name}" if of_the_family(name) else name


def _of_a_run(run: Path, given: dict[str, Any]) -> dict[str, Any]:
    """Take over the settings of a run: its images are judged again, or its adapter makes those of a suite."""
    config = make_config(load_run(run).config, str(run)).model_dump(mode="json")
    config |= {"until_width": None, "draw_class": None}
    if "suite" not in given:
        _generates_nothing(given, f"{run} has them; --suite makes new ones")
        return config | {"images": str(run)} | given
    if "until_width" in given and config["method"] != ORIGINAL:
        raise UserError(
            f"--until-width measures a model as it is, and {run} is of {config['method']}: leave one out"
        )
    adapter = {} if config["method"] == ORIGINAL else {"adapter": str(run / ADAPTER)}
    return config | {"images": None, "split": "test", "test_prompts": None} | adapter | given


def evaluate_as_asked(config: RunConfig, out: Path, **options: Any) -> Metrics:
    """Measure images that are there, or generate them first; all else as in `fairbench.runs.run.run`."""
    return evaluate_images(config, out, **options) if config.images else to_the_end(config, out, **options)


def evaluate_images(
    config: RunConfig,
    out: Path | None = None,
    *,
    fresh: bool = False,
    progress: Progress = nobody,
    paint: Paint | None = None,
) -> Metrics:
    """Measure the images that ``config.images`` names: a folder, a table or a run; return the metrics.

    Raises
    ------
    UserError
        A setting is wrong, an image cannot be read, or ``out`` cannot hold this evaluation.
    """
    place, source = RunDirectory(out or default_directory(config)), Path(str(config.images))
    place.check(config, fresh=fresh)  # before the images, which may be many, are looked for
    suite = None if config.suite == OWN else load_suite(config.suite)
    seen, reference = _seen(config, source, suite), referred_images(config.reference)
    images = seen.images
    made_of = cache(partial(_made_of, config, source, suite, images, reference))
    if (metrics := finished(place, config, made_of, fresh=fresh)) is not None:
        return metrics
    prompts = _prompts(config, suite, images)
    instruments = load_observers(config, AttributeSpace(config.attributes), suite, prompts)
    measurement = _describe(config, seen, suite, instruments)
    check_images([Path(path) for rows in images.variants for path in rows["image"]])
    referred = check_reference(reference, suite, instruments)
    each = images.variants[0].groupby("prompt_id").size().max()
    with Session.open(place, config, made_of, instruments, progress, fresh=fresh) as session:
        return session.results(
            images.variants,
            measurement,
            lambda: record_reference(referred, suite, prompts, each, config.seed, instruments),
            paint,
        )


def _made_of(
    config: RunConfig, source: Path, suite: PromptSuite | None, images: ImageSet, reference: ImageSet | None
) -> InputHashes:
    """Hash the prompts, the images, and the table that says more of them, where there is one."""
    prompts = suite.sha256 if suite else images.prompts_sha256
    hashes = {"suite": prompts, "images": images.sha256}
    hashes |= {"table": sha256_of(source)} if source.is_file() else {}
    return input_hashes(config, reference=reference, others=hashes)


def _prompts(config: RunConfig, suite: PromptSuite | None, images: ImageSet) -> list[Prompt]:
    """Return the prompts of the suite that there are images of."""
    shown = set(images.variants[0]["prompt_id"])
    return [prompt for prompt in suite.prompts(config.split) if prompt.id in shown] if suite else []


@dataclass(frozen=True)
class _Seen:
    """Images that are there already, with who has looked at them before."""

    images: ImageSet
    judges: tuple[JudgeUsed, ...] = ()
    """What the records say already, in columns like those of a judge."""
    training_features: frozenset[str] = frozenset()
    """Sha256 of the feature networks that the method learnt from."""


def _seen(config: RunConfig, source: Path, suite: PromptSuite | None) -> _Seen:
    """Find the images of a run, a folder or a table; the labels of a table count like a judge."""
    if RunDirectory(source).finished:
        if config.draw_class:
            raise UserError(
                f"{source} is a run and says itself who chose the attributes: leave out --draw-class"
            )
        return _of_run(source)
    images = find_images(source, suite, config.seed)
    known = dict(images.known)
    return _Seen(images, (JudgeUsed(name=KNOWN, attributes=known),) if known else ())


def _of_run(directory: Path) -> _Seen:
    """Take over the images of a finished run, and of the judges only the one that it learnt from."""
    run = load_run(directory)
    check_made(RunDirectory(run.path), [IMAGES])
    if "image" not in run.records:
        raise UserError(f"{run.path}: the records name no images: measure those of another run")
    measurement = measurement_of(run)
    trainer = measurement.training_judge
    kept = [str(name) for name in run.records if _is_kept(str(name), trainer)]
    rows = run.records[kept].assign(
        image=[str((run.path / image).absolute()) for image in run.records["image"]]
    )
    variants = [part.reset_index(drop=True) for _, part in rows.groupby("variant", sort=False)]
    learnt = frozenset(run.provenance.sha256.training_features.values())
    images = ImageSet(tuple(variants), measurement.method, measurement.draw_class)
    seen = run.provenance.sha256.images
    if seen and seen != images.sha256:
        raise UserError(f"{directory} is of other images than there are now: evaluate these first")
    return _Seen(images, (trainer,) if trainer else (), learnt)


def _is_kept(column: str, trainer: JudgeUsed | None) -> bool:
    if "/" not in column:
        return column not in SIMILARITIES
    return column.startswith((named(""), *([f"{trainer.name}/"] if trainer else [])))


def _describe(
    config: RunConfig, seen: _Seen, suite: PromptSuite | None, instruments: Instruments
) -> Measurement:
    """Write down what is known of the images; networks that a method learnt from must not evaluate it."""
    images = seen.images
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
        method=images.method,
        draw_class=config.draw_class or images.draw_class,
        model=spelled(config.model, config.model_options),
        suite=suite.name if suite else config.suite,
        suite_sha256=suite.sha256 if suite else images.prompts_sha256,
        measures=suite.measures if suite else "bias",
        attributes=space.names,
        target=TargetDistribution.parse(
            None if config.target == "uniform" else config.target, space
        ).probabilities,
        judges=judges,
        network=instruments.network,
        notes=tuple(_cut(images, instruments)),
    )


def _cut(images: ImageSet, instruments: Instruments) -> Iterator[str]:
    """Say of how many prompts CLIP-T reads the beginning only."""
    prompts = images.variants[0]["prompt"].unique()
    for network in instruments.features:
        if count := sum(network.too_long(prompt) for prompt in prompts):
            yield f"CLIP-T: {network.name} reads the beginning only of {count} of {len(prompts)} prompts"
