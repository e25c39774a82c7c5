"""``fairbench run``: debias a model, measure it before and after, and show both."""

import sys
import warnings
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fairbench.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

    from fairbench.config import RunConfig


def run(
    method: Annotated[
        list[str] | None,
        typer.Option(
            help=r"Method, with options: biased_dft\[rank=8]; may be repeated.", show_default="biased_dft"
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help=r"portraits, a diffusers directory or a Hub id org/name@revision, with options: "
            r"DIR\[scheduler=dpm].",
            show_default="portraits",
        ),
    ] = None,
    suite: Annotated[
        str | None, typer.Option(help="Prompt suite, or the path of a YAML file.", show_default="occupations")
    ] = None,
    attributes: Annotated[
        str | None, typer.Option(help="What to balance: gender or gender,race ...", show_default="gender")
    ] = None,
    target: Annotated[
        str | None, typer.Option(help="uniform, or gender=0.25/0.75.", show_default="uniform")
    ] = None,
    draw: Annotated[
        str | None,
        typer.Option(help="How drawn methods draw classes: iid, quota or by-seed.", show_default="iid"),
    ] = None,
    updates: Annotated[
        int | None, typer.Option(help="Finetuning updates.", show_default="the method's")
    ] = None,
    images_per_prompt: Annotated[
        int | None, typer.Option(help="Images per test prompt.", show_default="16")
    ] = None,
    test_prompts: Annotated[
        int | None, typer.Option(help="Use only the first test prompts.", show_default="all")
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Prompts to measure on: test or validation.", show_default="test")
    ] = None,
    tune: Annotated[
        str | None,
        typer.Option(
            help="What learns: text_encoder, unet, text_encoder+unet or prefix.", show_default="the method's"
        ),
    ] = None,
    optimizer: Annotated[
        str | None,
        typer.Option(help="adamw, adamw8bit, adafactor or sgd.", show_default="the method's"),
    ] = None,
    lr_schedule: Annotated[
        str | None, typer.Option(help="constant, cosine or linear.", show_default="the method's")
    ] = None,
    grad_clip: Annotated[
        float | None, typer.Option(help="Largest gradient norm let through.", show_default="the method's")
    ] = None,
    rows: Annotated[
        str | None,
        typer.Option(help="U-Net rows in a pass with gradient, or auto.", show_default="the method's"),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Base seed of all noise.", show_default="0")] = None,
    steps: Annotated[int | None, typer.Option(help="Sampling steps.", show_default="the model's")] = None,
    guidance: Annotated[
        float | None, typer.Option(help="Classifier-free guidance scale.", show_default="the model's")
    ] = None,
    judge: Annotated[
        list[str] | None, typer.Option(help="Evaluation judge; may be repeated.", show_default="the model's")
    ] = None,
    training_judge: Annotated[
        str | None, typer.Option(help="Judge to train with.", show_default="the model's")
    ] = None,
    features: Annotated[
        list[str] | None,
        typer.Option(help="Evaluation features; may be repeated.", show_default="the model's"),
    ] = None,
    training_features: Annotated[
        list[str] | None, typer.Option(help="Training features; may be repeated.", show_default="the model's")
    ] = None,
    real_faces: Annotated[
        Path | None,
        typer.Option(help="Folder of real faces for the face loss.", show_default="rendered, for portraits"),
    ] = None,
    face_features: Annotated[
        str | None,
        typer.Option(
            help="What tells faces apart in the face loss.", show_default="the last training features"
        ),
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option(
            help="Folder of images that FID and KID compare with.", show_default="rendered, for portraits"
        ),
    ] = None,
    stop_on: Annotated[
        list[str] | None,
        typer.Option(help="End the finetuning on this warning; may be repeated.", show_default="none"),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(help="Settings of an experiment, see fairbench list presets; options here win."),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file of settings; options here win.")] = None,
    matrix: Annotated[
        Path | None, typer.Option(help="YAML file of methods, attributes and seeds: many runs.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Directory of the run; default below ./runs.")] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh/--resume", help="Replace the run in the directory, or go on with it.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the metrics as JSON.")] = False,
) -> int | None:
    """Debias a model, measure it before and after on prompts it never saw, and show both."""
    overrides: dict[str, Any] = {
        "suite": suite,
        "attributes": attributes,
        "target": target,
        "draw": draw,
        "updates": updates,
        "images_per_prompt": images_per_prompt,
        "test_prompts": test_prompts,
        "split": split,
        "seed": seed,
        "steps": steps,
        "guidance": guidance,
        "judges": judge or None,
        "training_judge": training_judge,
        "features": features or None,
        "training_features": training_features or None,
        "real_faces": None if real_faces is None else str(real_faces),
        "face_features": face_features,
        "reference": None if reference is None else str(reference),
        "stop_on": stop_on or None,
    }
    overrides |= _named("model", model)
    training = {
        "tune": tune,
        "optimizer": optimizer,
        "lr_schedule": lr_schedule,
        "clip": grad_clip,
        "rows": _rows(rows),
    }
    if matrix or len(method or ()) > 1:
        from fairbench.cli.matrix import run_matrix

        if preset is not None:
            raise UserError("a preset is one run: give --preset or several runs, not both")
        return run_matrix(
            matrix, method, config, overrides, training, out, fresh=fresh, as_json=as_json, draw=draw_pictures
        )
    overrides |= _named("method", method[0] if method else None)
    settings = _settings(config, preset, overrides, training)

    from fairbench.cli.progress import live_progress
    from fairbench.cli.result import print_result
    from fairbench.finetuning.processes import Processes
    from fairbench.runs.run import run as run_to_the_end
    from fairbench.store.layout import RunDirectory, default_directory

    warnings.simplefilter("ignore", FutureWarning)  # of the libraries, to their own callers
    named = Path("runs") / f"{preset}-s{settings.seed}" if preset else default_directory(settings)
    place = RunDirectory(out or named)
    done_before = place.finished
    quiet = not Processes().first
    with live_progress(quiet=as_json or quiet) as progress:
        metrics = run_to_the_end(
            settings, place.path, fresh=fresh, progress=progress, draw=draw_pictures, warn=_warn
        )
    if not quiet:
        print_result(metrics, place.path, as_json, done_before and not fresh)
    return None


def _settings(
    config: Path | None, preset: str | None, overrides: dict[str, Any], method_options: dict[str, Any]
) -> "RunConfig":
    """Read file or preset and put the command line above it; ``method_options`` join those of the method."""
    from fairbench.config import load_config, make_config

    given = {key: value for key, value in overrides.items() if value is not None}
    if config is not None and preset is not None:
        raise UserError("give --preset or --config, not both")
    if config is not None:
        settings = load_config(config, given)
    elif preset is not None:
        settings = make_config(_preset(preset, given), f"preset {preset}")
    else:
        settings = make_config(given)
    options = {key: value for key, value in method_options.items() if value is not None}
    if not options:
        return settings
    return make_config(settings.model_dump() | {"method_options": settings.method_options | options})


def _preset(name: str, given: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of the preset that fits the model named beside it, with what is ``given`` above.

    What the preset says of the model is part of the experiment, so it holds for another model, too.
    """
    from fairbench.presets import preset_for
    from fairbench.runs.instruments import of_the_family

    model = given.get("model")
    settings = preset_for(name, model, model is not None and of_the_family(model)).settings
    options = settings.get("model_options", {}) | given.get("model_options", {})
    return settings | given | {"model_options": options}


def _named(key: str, text: str | None) -> dict[str, Any]:
    """Read ``name[option=value]``; naming it replaces the options that a file gives along with the name."""
    if text is None:
        return {}
    from fairbench.config import spec

    name, options = spec(text)
    return {key: name, f"{key}_options": options}


def _rows(text: str | None) -> int | str | None:
    if text in (None, "auto"):
        return text
    if not text.isdecimal():
        raise UserError(f"--rows {text}: give a number of U-Net rows, or auto")
    return int(text)


def _warn(message: str) -> None:
    print(f"fairbench: warning: {message}", file=sys.stderr)


def draw_pictures(
    directory: Path, records: "pd.DataFrame", training: "pd.DataFrame | None", metrics: dict[str, Any]
) -> None:
    """Draw the pictures of a run, and of its training where there was one."""
    from fairbench.report import curves, grids, plots

    pictures = directory / "pictures"
    grids.before_after(records, directory, metrics)
    for attribute in metrics["attributes"]:
        plots.dumbbell(records, pictures / f"{attribute}_by_prompt.png", metrics, attribute=attribute)
    if training is not None:
        with suppress(UserError):  # a method may log nothing that there is a curve for
            curves.training(training, pictures / "training.png")
