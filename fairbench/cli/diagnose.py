"""``fairbench diagnose``: why a method behaves as it does."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fairbench.cli.options import WRITTEN
from fairbench.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from fairbench.diagnostics.gradients import Diagnosis, Task
    from fairbench.models.hooks import Hooks
    from fairbench.progress import Progress

app = typer.Typer(help="See gradients, and which part of a model carries an effect.", no_args_is_help=True)


@app.command()
def gradients(
    model: Annotated[
        str, typer.Option(help="portraits, a diffusers directory, or a Hub id org/name@revision.")
    ] = "portraits",
    prompt: Annotated[
        str | None, typer.Option(help="Prompt to start from.", show_default="a training occupation")
    ] = None,
    towards: Annotated[
        str | None, typer.Option(help="Prompt whose images are the goal.", show_default="another one")
    ] = None,
    features: Annotated[
        list[str] | None,
        typer.Option(help="What images are compared with; may be repeated.", show_default="the model's"),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Denoising steps.", show_default="two thirds of the model's")
    ] = None,
    guidance: Annotated[
        float | None, typer.Option(min=0, help="Guidance scale.", show_default="the model's")
    ] = None,
    seeds: Annotated[int, typer.Option(min=2, help="Noises that means and intervals are over.")] = 20,
    updates: Annotated[int, typer.Option(min=1, help="Updates of each loss curve.")] = 30,
    runs: Annotated[int, typer.Option(min=1, help="Loss curves per gradient.")] = 3,
    images: Annotated[int, typer.Option(min=1, max=16, help="Images per update.")] = 2,
    learning_rate: Annotated[float, typer.Option(min=0, help="Of Adam, on the prompt embedding.")] = 0.1,
    clip: Annotated[float, typer.Option(min=0, help="Norm above which an update counts as clipped.")] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="Base seed of all noise.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Directory; default below ./runs.", **WRITTEN)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the numbers as JSON.")] = False,
) -> None:
    """Compare the exact, the uncoupled and the biased gradient, step by step and by what they achieve."""
    from functools import partial

    from fairbench.cli.output import print_json
    from fairbench.diagnostics.curves import loss_curves
    from fairbench.diagnostics.gradients import diagnose
    from fairbench.report.live import live_progress
    from fairbench.storage import explained

    task = _task(model, prompt, towards, features or [], steps, guidance, seed)
    place = out or Path("runs") / f"gradients-{_stem(model)}-s{seed}"
    with explained(place):
        place.mkdir(parents=True, exist_ok=True)
    settings: dict[str, Any] = {
        "updates": updates,
        "runs": runs,
        "images": images,
        "learning_rate": learning_rate,
    }
    with live_progress(quiet=as_json) as progress:
        curves = partial(loss_curves, **settings, clip=clip, progress=progress)
        found = diagnose(task, seeds=seeds, curves=curves, progress=progress)
    described = {
        "model": model, "prompt": task.prompt, "towards": task.towards, "steps": task.steps,
        "guidance": task.guidance, "features": [network.name for network in task.features], "seeds": seeds,
        "seed": seed, "clip": clip, **settings,
    }  # fmt: skip
    content = {"schema_version": 1, "settings": described, **found.summary}
    _write(found, content, place)
    if as_json:
        print_json(content | {"per_step": found.steps.to_dict("records")})
    else:
        _print(found, place)


def _task(
    name: str,
    prompt: str | None,
    towards: str | None,
    features: list[str],
    steps: int | None,
    guidance: float | None,
    seed: int,
) -> "Task":
    """Load what is needed, with everything checked that can be before the work begins."""
    from fairbench.diagnostics.gradients import Task
    from fairbench.features import load_features
    from fairbench.models.loading import load_model
    from fairbench.models.text_to_image import TextToImage
    from fairbench.runs.family import DEFAULTS, of_the_family
    from fairbench.suites import load_suite

    names = features or (DEFAULTS["training_features"] if of_the_family(name) else ())
    if not names:
        raise UserError(f"the model {name} brings no feature networks of its own: name one with --features")
    texts = [each.text for each in load_suite("occupations").prompts("train")]
    prompt, towards = prompt or texts[0], towards or texts[len(texts) // 2]
    if prompt == towards:
        raise UserError("--prompt and --towards are the same: there is nothing to minimise")
    model = load_model(name)
    if not isinstance(model, TextToImage):
        raise UserError(f"{name} is no diffusion model: it has no gradients to look at")
    task = Task(
        model=model,
        features=[load_features(each).to(model.device) for each in names],
        prompt=prompt,
        towards=towards,
        steps=steps or max(1, round(model.defaults.steps * 2 / 3)),
        guidance=model.defaults.guidance if guidance is None else guidance,
        seed=seed,
    )
    most = model.pipeline.scheduler.config.num_train_timesteps
    if task.steps > most:
        raise UserError(f"--steps {task.steps}: the sampler of {name} takes at most {most}")
    task.weights("official")
    for text in (prompt, towards):
        task.encode(text, 1)
    return task


def _stem(name: str) -> str:
    return name.partition("@")[0].rstrip("/").rpartition("/")[2]


def _write(found: "Diagnosis", content: dict[str, Any], place: Path) -> None:
    from fairbench.report import gradients as report
    from fairbench.storage import atomic_write_json, atomic_write_table

    atomic_write_table(place / "steps.parquet", found.steps)
    atomic_write_table(place / "curves.parquet", found.curves)
    report.figure_one(found.steps, found.curves, place / "figure_1.png")
    report.weights(found.steps, place / "weights.png")
    atomic_write_json(place / "gradients.json", content)


def _print(found: "Diagnosis", place: Path) -> None:
    from fairbench.cli.output import make_console
    from fairbench.report import gradients as report

    console = make_console()
    console.print(report.steps_table(found.steps))
    console.print()
    console.print(report.summary_table(found.summary))
    console.print(f"tables, pictures and numbers: {place}", highlight=False, soft_wrap=True)


@app.command()
def components(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Directories of finished runs.")],
    out: Annotated[
        Path | None,
        typer.Option(help="Directory; default beside the first run.", show_default=False, **WRITTEN),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the numbers as JSON.")] = False,
) -> None:
    """Swap tuned and original parts on identical noise: which part carries the change, and at what cost."""
    from fairbench.cli.output import make_console, print_json
    from fairbench.report import components as report
    from fairbench.report.live import live_progress
    from fairbench.storage import atomic_write_json, explained

    names = [path.resolve().name for path in runs]
    if len(set(names)) < len(names):
        raise UserError("two of the runs have the same name: give each one once")
    place = out or runs[0].resolve().with_name(f"{names[0]}-components")
    swapped = [_swapped(path) for path in runs]
    with explained(place):
        place.mkdir(parents=True, exist_ok=True)
    with live_progress(quiet=as_json) as progress:
        found = {
            name: attribute(lambda stage, *of, name=name: progress(name, *of))
            for name, attribute in zip(names, swapped, strict=True)
        }
    report.shares(found, place / "shares.png")
    content = {"schema_version": 1, "runs": found}
    atomic_write_json(place / "components.json", content)
    if as_json:
        print_json(content)
        return
    console = make_console()
    for name, each in found.items():
        console.print(report.table(name, each))
        console.print()
    console.print(f"picture and numbers: {place}", highlight=False, soft_wrap=True)


def _swapped(directory: Path) -> "Callable[[Progress], dict[str, Any]]":
    """Read a run and load what it was made with; what is left takes progress and returns the shares."""
    from fairbench.config import make_config
    from fairbench.diagnostics.components import Bench, attribute, parts_of
    from fairbench.draws import Draw
    from fairbench.intervention import Intervention
    from fairbench.runs.instruments import load_instruments
    from fairbench.runs.plan import make_plan
    from fairbench.seeding import image_seed
    from fairbench.store.layout import RunDirectory
    from fairbench.store.load import load_adapter, load_run

    config = make_config(load_run(directory).config, str(directory))
    plan = make_plan(config)
    if not plan.trains:
        raise UserError(f"{directory}: has measured the original model alone: there is nothing to swap")
    intervention = load_adapter(RunDirectory(directory).adapter)
    parts_of(intervention)
    instruments = load_instruments(plan)
    seeds = [
        [
            image_seed(plan.suite.name, plan.suite.version, prompt.id, index, config.seed)
            for index in range(config.images_per_prompt)
        ]
        for prompt in plan.test
    ]
    pairs = [(prompt.id, seed) for prompt, own in zip(plan.test, seeds, strict=True) for seed in own]
    draw = Draw.make(plan.space, plan.target, config.draw, pairs)
    model = instruments.model
    bench = Bench(
        model=model,
        prompts=plan.test,
        seeds=seeds,
        targets=plan.target.probabilities,
        judge=instruments.judges[0],
        features=instruments.features,
        steps=config.steps,
        guidance=config.guidance,
    )

    def apply(some: Intervention) -> "AbstractContextManager[Hooks]":
        return plan.method.apply(some, model, draw)

    return lambda progress: attribute(intervention, bench, apply, progress)
