"""The options of ``run`` and ``evaluate``, and how they become settings: by their names.

An option is the setting of that name, be it of a run (`fairbench.config.RunConfig`) or of a training
(`TRAINING`); the exceptions follow.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from fairbench.errors import UserError

RENAMED = {"judge": "judges", "grad_clip": "clip"}
"""Options that are called differently from what they set."""

READ_APART = {"method", "model", "images"}
"""Settings that a command reads by itself, because what it does depends on them."""

TRAINING = ("tune", "optimizer", "lr_schedule", "clip", "rows")
"""Options of the methods that train, ``NAME[tune=unet]``, that are options of ``run``, too."""


def _place(path: str) -> Path:
    """Read the path of what is to be written; an empty one would stand for where one is."""
    if not str(path):
        raise UserError("the path to write to is empty: name one, or leave the option out")
    return Path(path)


WRITTEN: dict[str, Any] = {"parser": _place, "metavar": "PATH"}
"""How an option is read that names what is to be written."""


def settings(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a run among ``options``: the ``locals()`` that a command begins with."""
    from fairbench.config import RunConfig

    return _given(options, RunConfig.model_fields.keys() - READ_APART)


def training(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a training among ``options``."""
    given = _given(options, TRAINING)
    return given | {"rows": _rows(given["rows"])} if "rows" in given else given


def named(key: str, text: str | None) -> dict[str, Any]:
    """Read ``name[option=value]``; naming it replaces the options that a file gives along with the name."""
    from fairbench import config

    return config.named(key, text)


def _given(options: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """Return what is given of ``names``; a path becomes text, and an empty list counts as not given."""
    called = {RENAMED.get(option, option): value for option, value in options.items()}
    return {
        name: str(value) if isinstance(value, Path) else value
        for name, value in called.items()
        if name in names and value not in (None, [])
    }


def _rows(text: str) -> int | str:
    if text == "auto":
        return text
    if not text.isdecimal():
        raise UserError(f"--rows {text}: give a number of U-Net rows, or auto")
    return int(text)


# The options of ``run``.

Method = Annotated[
    list[str] | None,
    typer.Option(
        help=r"Method, with options: biased_dft\[rank=8]; may be repeated.", show_default="biased_dft"
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        help=r"portraits, a diffusers directory or a Hub id org/name@revision, with options: "
        r"DIR\[scheduler=dpm].",
        show_default="portraits",
    ),
]
Suite = Annotated[
    str | None, typer.Option(help="Prompt suite, or the path of a YAML file.", show_default="occupations")
]
Attributes = Annotated[
    str | None, typer.Option(help="What to balance: gender or gender,race ...", show_default="gender")
]
Target = Annotated[str | None, typer.Option(help="uniform, or gender=0.25/0.75.", show_default="uniform")]
Draw = Annotated[
    str | None,
    typer.Option(help="How drawn methods draw classes: iid, quota or by-seed.", show_default="iid"),
]
Updates = Annotated[int | None, typer.Option(help="Finetuning updates.", show_default="the method's")]
ImagesPerPrompt = Annotated[int | None, typer.Option(help="Images per test prompt.", show_default="16")]
TestPrompts = Annotated[int | None, typer.Option(help="Use only the first test prompts.", show_default="all")]
Split = Annotated[
    str | None, typer.Option(help="Prompts to measure on: test or validation.", show_default="test")
]
Tune = Annotated[
    str | None,
    typer.Option(
        help="What learns: text_encoder, unet, text_encoder+unet or prefix.", show_default="the method's"
    ),
]
Optimizer = Annotated[
    str | None,
    typer.Option(help="adamw, adamw8bit, adafactor or sgd.", show_default="the method's"),
]
LrSchedule = Annotated[
    str | None, typer.Option(help="constant, cosine or linear.", show_default="the method's")
]
GradClip = Annotated[
    float | None, typer.Option(help="Largest gradient norm let through.", show_default="the method's")
]
Rows = Annotated[
    str | None,
    typer.Option(help="U-Net rows in a pass with gradient, or auto.", show_default="the method's"),
]
Seed = Annotated[int | None, typer.Option(help="Base seed of all noise.", show_default="0")]
Steps = Annotated[int | None, typer.Option(help="Sampling steps.", show_default="the model's")]
Guidance = Annotated[
    float | None, typer.Option(help="Classifier-free guidance scale.", show_default="the model's")
]
Judge = Annotated[
    list[str] | None, typer.Option(help="Evaluation judge; may be repeated.", show_default="the model's")
]
TrainingJudge = Annotated[str | None, typer.Option(help="Judge to train with.", show_default="the model's")]
Features = Annotated[
    list[str] | None,
    typer.Option(help="Evaluation features; may be repeated.", show_default="the model's"),
]
TrainingFeatures = Annotated[
    list[str] | None, typer.Option(help="Training features; may be repeated.", show_default="the model's")
]
RealFaces = Annotated[
    Path | None,
    typer.Option(help="Folder of real faces for the face loss.", show_default="rendered, for portraits"),
]
FaceFeatures = Annotated[
    str | None,
    typer.Option(help="What tells faces apart in the face loss.", show_default="the last training features"),
]
Reference = Annotated[
    Path | None,
    typer.Option(
        help="Folder of images that FID and KID compare with.", show_default="rendered, for portraits"
    ),
]
StopOn = Annotated[
    list[str] | None,
    typer.Option(help="End the finetuning on this warning; may be repeated.", show_default="none"),
]
Preset = Annotated[
    str | None,
    typer.Option(help="Settings of an experiment, see fairbench list presets; options here win."),
]
Config = Annotated[Path | None, typer.Option(help="YAML file of settings; options here win.")]
Matrix = Annotated[Path | None, typer.Option(help="YAML file of methods, attributes and seeds: many runs.")]
Out = Annotated[Path | None, typer.Option(help="Directory of the run; default below ./runs.", **WRITTEN)]
Fresh = Annotated[
    bool, typer.Option("--fresh/--resume", help="Replace the run in the directory, or go on with it.")
]
Verify = Annotated[
    bool, typer.Option("--verify", help="Look for changes in every file that a run made and that is read.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the metrics as JSON.")]

# The options of ``evaluate``, and what it says otherwise of those of ``run``: few have a default to show,
# because what is not given is as in the run that is measured.

Run = Annotated[
    Path | None, typer.Argument(help="A finished run: judge its images, or with --suite make new ones.")
]
EvaluateModel = Annotated[
    str | None, typer.Option(help="Model to generate with; for given images, what made them.")
]
EvaluateSuite = Annotated[
    str | None, typer.Option(help="Prompt suite.", show_default="occupations; images bring their own")
]
Images = Annotated[
    Path | None, typer.Option(help="Folder of prompt_*/img_*, or a CSV or parquet of path, prompt ...")
]
DrawClass = Annotated[
    str | None,
    typer.Option(
        help="Who chose the attributes of --images: emergent, drawn or coupled.", show_default="unknown"
    ),
]
EvaluateReference = Annotated[
    Path | None, typer.Option(help="Folder of images that FID and KID compare with.")
]
EvaluateAttributes = Annotated[
    str | None, typer.Option(help="What to measure first: gender or gender,race ...")
]
EvaluateTarget = Annotated[str | None, typer.Option(help="uniform, or gender=0.25/0.75.")]
EvaluateJudge = Annotated[list[str] | None, typer.Option(help="Judge; may be repeated.")]
EvaluateFeatures = Annotated[list[str] | None, typer.Option(help="Features; may be repeated.")]
EvaluateImagesPerPrompt = Annotated[int | None, typer.Option(help="Images per prompt.")]
EvaluateTestPrompts = Annotated[int | None, typer.Option(help="Use only the first test prompts.")]
UntilWidth = Annotated[
    float | None, typer.Option(help="Generate until the interval of the gap is so narrow, such as 0.05.")
]
EvaluateSeed = Annotated[int | None, typer.Option(help="Base seed of all noise.")]
EvaluateSteps = Annotated[int | None, typer.Option(help="Sampling steps.")]
EvaluateGuidance = Annotated[float | None, typer.Option(help="Classifier-free guidance scale.")]
EvaluateOut = Annotated[Path | None, typer.Option(help="Its directory; default below ./runs.", **WRITTEN)]
EvaluateFresh = Annotated[bool, typer.Option("--fresh/--resume", help="Replace what is there, or go on.")]
