"""``fairbench evaluate``: measure a model, a run or a folder of images without training anything."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairbench.cli import options
from fairbench.errors import UserError

if TYPE_CHECKING:
    from fairbench.config import RunConfig

GENERATING = ("images_per_prompt", "test_prompts", "until_width", "steps", "guidance")
"""What only a model that makes images has a use for."""


def evaluate(
    run: options.Run = None,
    model: options.EvaluateModel = None,
    suite: options.EvaluateSuite = None,
    images: options.Images = None,
    draw_class: options.DrawClass = None,
    reference: options.EvaluateReference = None,
    attributes: options.EvaluateAttributes = None,
    target: options.EvaluateTarget = None,
    judge: options.EvaluateJudge = None,
    features: options.EvaluateFeatures = None,
    images_per_prompt: options.EvaluateImagesPerPrompt = None,
    test_prompts: options.EvaluateTestPrompts = None,
    until_width: options.UntilWidth = None,
    seed: options.EvaluateSeed = None,
    steps: options.EvaluateSteps = None,
    guidance: options.EvaluateGuidance = None,
    out: options.EvaluateOut = None,
    fresh: options.EvaluateFresh = False,
    as_json: options.AsJson = False,
) -> None:
    """Measure a run, a model or images that are there; nothing is trained."""
    given = options.settings(locals())

    from fairbench.cli.result import print_result
    from fairbench.report.live import live_progress
    from fairbench.report.pictures import paint
    from fairbench.store.layout import RunDirectory, default_directory

    warnings.simplefilter("ignore", FutureWarning)  # of the libraries, to their own callers
    config = _settings(run, model, images, given)
    place = out or default_directory(config)
    done_before = RunDirectory(place).finished and not fresh
    with live_progress(quiet=as_json) as progress:
        metrics = _work(config)(config, place, fresh=fresh, progress=progress, paint=paint)
    print_result(metrics, place, as_json, done_before)


def _settings(run: Path | None, model: str | None, images: Path | None, given: dict[str, Any]) -> "RunConfig":
    """Put together what is asked for; exactly one of a run, a model and images is measured."""
    from fairbench.config import make_config

    if run is not None and (model is not None or images is not None):
        raise UserError("give a run, or --model, or --images, not two of them")
    if run is not None:
        return make_config(_of_run(run, given))
    named = options.named("model", model or None)
    if images is None:
        return make_config({"method": "original", **named, **given})
    _generates_nothing(given, "--images has them")
    named = named or {"model": _called_after(images)}
    return make_config({"method": "original", "images": str(images), "suite": "own", **named, **given})


def _generates_nothing(given: dict[str, Any], why: str) -> None:
    """Refuse what would be ignored where the images are there."""
    for key in GENERATING:
        if key in given:
            raise UserError(f"--{key.replace('_', '-')} is for making images, and {why}: leave it out")


def _called_after(images: Path) -> str:
    """Name what made the images after their folder, but never like a model that brings judges of its own."""
    from fairbench.runs.family import of_the_family

    stem = images.absolute().stem
    return f"images of {stem}" if of_the_family(stem) else stem


def _of_run(run: Path, given: dict[str, Any]) -> dict[str, Any]:
    """Take over the settings of a run: its images are judged again, or its adapter makes those of a suite."""
    from fairbench.records import ORIGINAL
    from fairbench.store.load import load_run

    config = {**load_run(run).config, "until_width": None, "draw_class": None}
    if "suite" not in given:
        _generates_nothing(given, f"{run} has them; --suite makes new ones")
        return config | {"images": str(run)} | given
    if "until_width" in given and config["method"] != ORIGINAL:
        raise UserError(
            f"--until-width measures a model as it is, and {run} is of {config['method']}: leave one out"
        )
    adapter = {"adapter": str(run / "adapter")} if (run / "adapter").is_dir() else {}
    return config | {"images": None, "split": "test", "test_prompts": None} | adapter | given


def _work(config: "RunConfig") -> Any:
    from fairbench.runs.evaluate import evaluate_images
    from fairbench.runs.run import run

    return evaluate_images if config.images else run
