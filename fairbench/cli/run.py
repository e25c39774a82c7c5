"""``fairbench run``: debias a model, measure it before and after, and show both."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairbench.cli import options
from fairbench.cli.output import say
from fairbench.errors import UserError

if TYPE_CHECKING:
    from fairbench.config import RunConfig


def run(
    method: options.Method = None,
    model: options.Model = None,
    suite: options.Suite = None,
    attributes: options.Attributes = None,
    target: options.Target = None,
    draw: options.Draw = None,
    updates: options.Updates = None,
    images_per_prompt: options.ImagesPerPrompt = None,
    test_prompts: options.TestPrompts = None,
    split: options.Split = None,
    tune: options.Tune = None,
    optimizer: options.Optimizer = None,
    lr_schedule: options.LrSchedule = None,
    grad_clip: options.GradClip = None,
    rows: options.Rows = None,
    seed: options.Seed = None,
    steps: options.Steps = None,
    guidance: options.Guidance = None,
    judge: options.Judge = None,
    training_judge: options.TrainingJudge = None,
    features: options.Features = None,
    training_features: options.TrainingFeatures = None,
    real_faces: options.RealFaces = None,
    face_features: options.FaceFeatures = None,
    reference: options.Reference = None,
    stop_on: options.StopOn = None,
    preset: options.Preset = None,
    config: options.Config = None,
    matrix: options.Matrix = None,
    out: options.Out = None,
    fresh: options.Fresh = False,
    as_json: options.AsJson = False,
) -> int | None:
    """Debias a model, measure it before and after on prompts it never saw, and show both."""
    given = options.settings(locals()) | options.named("model", model)
    training = options.training(locals())
    if matrix or len(method or ()) > 1:
        from fairbench.cli.matrix import run_matrix

        if preset is not None:
            raise UserError("a preset is one run: give --preset or several runs, not both")
        return run_matrix(matrix, method, config, given, training, out, fresh=fresh, as_json=as_json)
    given |= options.named("method", method[0] if method else None)
    settings = _settings(config, preset, given, training)
    _run_one(settings, out or _directory(preset, settings), fresh, as_json)
    return None


def _settings(
    config: Path | None, preset: str | None, given: dict[str, Any], training: dict[str, Any]
) -> "RunConfig":
    """Read file or preset and put what is ``given`` above it; ``training`` joins the method's options."""
    from fairbench.config import load_config, make_config

    if config is not None and preset is not None:
        raise UserError("give --preset or --config, not both")
    if config is not None:
        settings = load_config(config, given)
    elif preset is not None:
        settings = make_config(_preset(preset, given), f"preset {preset}")
    else:
        settings = make_config(given)
    if not training:
        return settings
    return make_config(settings.model_dump() | {"method_options": settings.method_options | training})


def _preset(name: str, given: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of the preset that fits the model named beside it, with what is ``given`` above.

    What the preset says of the model is part of the experiment, so it holds for another model, too.
    """
    from fairbench.presets import preset_for
    from fairbench.runs.family import of_the_family

    model = given.get("model")
    settings = preset_for(name, model, model is not None and of_the_family(model)).settings
    model_options = settings.get("model_options", {}) | given.get("model_options", {})
    return settings | given | {"model_options": model_options}


def _directory(preset: str | None, settings: "RunConfig") -> Path:
    """Return the directory of a run without ``--out``: below ``runs``, called after what it is."""
    from fairbench.store.layout import default_directory

    return Path("runs") / f"{preset}-s{settings.seed}" if preset else default_directory(settings)


def _run_one(settings: "RunConfig", place: Path, fresh: bool, as_json: bool) -> None:
    """Run to the end and print what was measured; of several processes, the first prints."""
    from fairbench.cli.result import print_result
    from fairbench.finetuning.processes import Processes
    from fairbench.report.live import live_progress
    from fairbench.report.pictures import paint
    from fairbench.runs.run import run as run_to_the_end
    from fairbench.store.layout import RunDirectory

    warnings.simplefilter("ignore", FutureWarning)  # of the libraries, to their own callers
    done_before = RunDirectory(place).finished and not fresh
    quiet = not Processes().first
    with live_progress(quiet=as_json or quiet) as progress:
        metrics = run_to_the_end(settings, place, fresh=fresh, progress=progress, paint=paint, warn=_warn)
    if not quiet:
        print_result(metrics, place, as_json, done_before)


def _warn(message: str) -> None:
    say(f"warning: {message}")
