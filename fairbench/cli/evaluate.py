"""``fairbench evaluate``: measure a model, a run or a folder of images without training anything."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fairbench.errors import UserError

if TYPE_CHECKING:
    from fairbench.config import RunConfig

GENERATING = ("images_per_prompt", "test_prompts", "until_width", "steps", "guidance")
"""What only a model that makes images has a use for."""


def evaluate(
    run: Annotated[
        Path | None, typer.Argument(help="A finished run: judge its images, or with --suite make new ones.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Model to generate with; for given images, what made them.")
    ] = None,
    suite: Annotated[
        str | None, typer.Option(help="Prompt suite.", show_default="occupations; images bring their own")
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="Folder of prompt_*/img_*, or a CSV or parquet of path, prompt ...")
    ] = None,
    draw_class: Annotated[
        str | None,
        typer.Option(
            help="Who chose the attributes of --images: emergent, drawn or coupled.", show_default="unknown"
        ),
    ] = None,
    reference: Annotated[
        Path | None, typer.Option(help="Folder of images that FID and KID compare with.")
    ] = None,
    attributes: Annotated[
        str | None, typer.Option(help="What to measure first: gender or gender,race ...")
    ] = None,
    target: Annotated[str | None, typer.Option(help="uniform, or gender=0.25/0.75.")] = None,
    judge: Annotated[list[str] | None, typer.Option(help="Judge; may be repeated.")] = None,
    features: Annotated[list[str] | None, typer.Option(help="Features; may be repeated.")] = None,
    images_per_prompt: Annotated[int | None, typer.Option(help="Images per prompt.")] = None,
    test_prompts: Annotated[int | None, typer.Option(help="Use only the first test prompts.")] = None,
    until_width: Annotated[
        float | None, typer.Option(help="Generate until the interval of the gap is so narrow, such as 0.05.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Base seed of all noise.")] = None,
    steps: Annotated[int | None, typer.Option(help="Sampling steps.")] = None,
    guidance: Annotated[float | None, typer.Option(help="Classifier-free guidance scale.")] = None,
    out: Annotated[Path | None, typer.Option(help="Its directory; default below ./runs.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh/--resume", help="Replace what is there, or go on.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the metrics as JSON.")] = False,
) -> None:
    """Measure a run, a model or images that are there; nothing is trained."""
    from fairbench.cli.progress import live_progress
    from fairbench.cli.result import print_result
    from fairbench.cli.run import draw_pictures
    from fairbench.store.layout import RunDirectory, default_directory

    warnings.simplefilter("ignore", FutureWarning)  # of the libraries, to their own callers
    given = {
        "suite": suite,
        "draw_class": draw_class,
        "reference": None if reference is None else str(reference),
        "attributes": attributes,
        "target": target,
        "judges": judge or None,
        "features": features or None,
        "images_per_prompt": images_per_prompt,
        "test_prompts": test_prompts,
        "until_width": until_width,
        "seed": seed,
        "steps": steps,
        "guidance": guidance,
    }
    config = _settings(run, model, images, {key: value for key, value in given.items() if value is not None})
    place = out or default_directory(config)
    done_before = RunDirectory(place).finished and not fresh
    with live_progress(quiet=as_json) as progress:
        metrics = _work(config)(config, place, fresh=fresh, progress=progress, draw=draw_pictures)
    print_result(metrics, place, as_json, done_before)


def _settings(run: Path | None, model: str | None, images: Path | None, given: dict[str, Any]) -> "RunConfig":
    """Put together what is asked for; exactly one of a run, a model and images is measured."""
    from fairbench.config import make_config, spec

    if run is not None and (model is not None or images is not None):
        raise UserError("give a run, or --model, or --images, not two of them")
    if run is not None:
        return make_config(_of_run(run, given))
    name, options = spec(model) if model else (None, {})
    if images is None:
        return make_config(
            {"method": "original", "model": name or "portraits", "model_options": options, **given}
        )
    _generates_nothing(given, "--images has them")
    source = {"images": str(images), "suite": "own", "model": name or _called_after(images)}
    return make_config({"method": "original", "model_options": options, **source, **given})


def _generates_nothing(given: dict[str, Any], why: str) -> None:
    """Refuse what would be ignored where the images are there."""
    for key in GENERATING:
        if key in given:
            raise UserError(f"--{key.replace('_', '-')} is for making images, and {why}: leave it out")


def _called_after(images: Path) -> str:
    """Name what made the images after their folder, but never like a model that brings judges of its own."""
    from fairbench.runs.instruments import of_the_family

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
