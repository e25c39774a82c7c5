"""``fairbench evaluate``: measure a model, a run or a folder of images without training anything."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from fairbench.cli import options

if TYPE_CHECKING:
    from fairbench.config import RunConfig


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
    verify: options.Verify = False,
    as_json: options.AsJson = False,
) -> None:
    """Measure a run, a model or images that are there; nothing is trained."""
    given = options.settings(locals())

    from fairbench.cli.result import print_result
    from fairbench.report.live import live_progress
    from fairbench.report.pictures import paint
    from fairbench.runs.evaluate import evaluate_as_asked, evaluation
    from fairbench.store.layout import RunDirectory, default_directory

    warnings.simplefilter("ignore", FutureWarning)  # of the libraries, to their own callers
    config = evaluation(run, options.named("model", model or None), images, given)
    place = out or default_directory(config)
    done_before = RunDirectory(place).finished and not fresh
    if verify:
        _verify(config, place, done_before)
    with live_progress(quiet=as_json) as progress:
        metrics = evaluate_as_asked(config, place, fresh=fresh, progress=progress, paint=paint)
    print_result(metrics, place, as_json, done_before)


def _verify(config: "RunConfig", place: Path, done_before: bool) -> None:
    """Look for changes in the content of all that is read of finished runs."""
    from fairbench.store.layout import IMAGES, MADE, RunDirectory
    from fairbench.store.load import load_adapter
    from fairbench.store.manifest import check_made

    if config.images:
        check_made(RunDirectory(Path(config.images)), (*MADE, IMAGES), verify=True)
    if config.adapter:
        load_adapter(config.adapter, verify=True)
    if done_before:
        check_made(RunDirectory(place), MADE, verify=True)
