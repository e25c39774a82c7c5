"""From a model's name to a model: the packaged one, a diffusers directory, a Hub id or a plugin.

Nothing is opened before it is known to be safetensors and ordinary diffusers and transformers classes.
"""

from __future__ import annotations

import importlib.metadata
import inspect
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from fairbench.errors import UserError, invalid, one_line, unknown
from fairbench.networks import download
from fairbench.storage import read_json

if TYPE_CHECKING:
    import torch

    from fairbench.models.text_to_image import Defaults

ENTRY_POINTS = "fairbench.models"
PACKAGED = "portraits"
PIPELINE = "StableDiffusionPipeline"
COMPONENTS = {
    "tokenizer": ("transformers.CLIPTokenizer", "transformers.CLIPTokenizerFast"),
    "text_encoder": ("transformers.CLIPTextModel",),
    "unet": ("diffusers.UNet2DConditionModel",),
    "vae": ("diffusers.AutoencoderKL",),
    "scheduler": ("diffusers.*Scheduler",),
}
WEIGHTS = {
    "text_encoder": "model",
    "unet": "diffusion_pytorch_model",
    "vae": "diffusion_pytorch_model",
}
PICKLES = {".bin", ".ckpt", ".pt", ".pth", ".pkl"}
INDEX = "model_index.json"
HUB_FILES = [
    INDEX,
    "fairbench.json",
    *(f"tokenizer/*.{ending}" for ending in ("json", "txt")),
    "scheduler/*.json",
    *(f"{component}/*.json" for component in WEIGHTS),
    *(
        f"{component}/{stem}{part}.safetensors"
        for component, stem in WEIGHTS.items()
        for part in ("", "-?????-of-*")
    ),
]
LONGEST_PROMPT = 1_000_000
"""Tokens; transformers says far more where nothing says how many."""
DTYPES = ("auto", "float32", "bfloat16", "float16")
SCHEDULERS: dict[str, tuple[str, dict[str, Any]]] = {
    "ddim": ("DDIMScheduler", {}),
    "ddpm": ("DDPMScheduler", {}),
    # from the most to the least noise of the training: as in diffusers 0.19, which arXiv 2311.07604 used
    "dpm": (
        "DPMSolverMultistepScheduler",
        {"timestep_spacing": "linspace", "final_sigmas_type": "sigma_min"},
    ),
    "euler": ("EulerDiscreteScheduler", {}),
}
"""Name -> class of diffusers, and where it differs from the directory's own configuration."""


def list_models() -> list[str]:
    """Return the models that have a name of their own: the packaged one and those of installed plugins."""
    return sorted({PACKAGED, *(entry.name for entry in importlib.metadata.entry_points(group=ENTRY_POINTS))})


def load_model(name: str, **options: Any) -> Any:
    """Load a model: `TextToImage`, or whatever a plugin of that name makes.

    Parameters
    ----------
    name
        ``portraits``, a directory, ``org/name@revision`` on the Hugging Face Hub, or a plugin of the
        entry-point group ``fairbench.models``.
    **options
        ``device`` ("auto": cuda if there is one), ``dtype`` ("auto": bfloat16 on a card that
        is made for it, else float32), ``scheduler`` (of `SCHEDULERS`; None: the one in the directory) and
        ``compile`` (the U-Net with ``torch.compile``), or what the plugin takes.

    Raises
    ------
    UserError
        If there is no such model, or it is not one that can be opened safely and sampled.

    Examples
    --------
    >>> import fairbench
    >>> model = fairbench.load_model("portraits", device="cpu")
    >>> tuple(model.generate(["face of a geologist"], seeds=[0], steps=2).shape)
    (1, 3, 64, 64)
    """
    if (directory := model_directory(name)) is not None:
        return _call(name, open_directory, options, directory=directory, name=name)
    for entry in importlib.metadata.entry_points(group=ENTRY_POINTS, name=name):
        try:
            factory = entry.load()
        except (Exception, SystemExit) as error:  # whatever a plugin does on import
            raise UserError(
                f"the plugin {entry.value} of model {name!r} cannot be imported: "
                f"{one_line(error, named=True)}"
            ) from error
        try:
            return _call(name, factory, options)
        except UserError:
            raise
        except (Exception, SystemExit) as error:
            raise UserError(
                f"the plugin {entry.value} of model {name!r} failed: {one_line(error, named=True)}"
            ) from error
    if Path(name).is_file() or Path(name).suffix in {".safetensors", *PICKLES}:
        raise UserError(
            f"{name}: a single file is not supported: turn it into a directory with diffusers' "
            "StableDiffusionPipeline.from_single_file(FILE).save_pretrained(DIRECTORY)"
        )
    if re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", name):
        raise UserError(f"no directory {name!r}; a Hub model needs a revision: {name}@<commit or tag>")
    raise UserError(f"{unknown('model', name, list_models())}, or a directory, or org/name@revision")


def model_directory(name: str) -> Path | None:
    """Return where the files of a model lie, fetched from the Hub if need be; None for any other name."""
    if name == PACKAGED:
        directory = Path(str(files("fairbench.portraits") / "checkpoint"))
        if not directory.is_dir():
            raise UserError(f"{directory} is missing: build it with `python -m fairbench.portraits.build`")
        return directory
    if Path(name).is_dir():
        return Path(name)
    if name in list_models():
        return None
    match = re.fullmatch(r"([\w.-]+/[\w.-]+)@([\w./-]+)", name)
    return download(match[1], match[2], HUB_FILES) if match else None


def open_directory(
    directory: Path,
    name: str,
    device: str = "auto",
    dtype: str = "auto",
    scheduler: str | None = None,
    compile: bool = False,
) -> Any:
    """Open a diffusers directory; ``fairbench.json`` in it, if there, holds its sampling defaults."""
    if scheduler is not None and scheduler not in tuple(SCHEDULERS):
        raise unknown("scheduler", scheduler, SCHEDULERS)
    if not isinstance(compile, bool):
        raise UserError(f"compile={compile}: write true or false")
    check_directory(directory)
    where, precision = _placement(device, dtype)
    if compile:
        _check_compiler(where)
    from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextModel

    from fairbench.models.text_to_image import TextToImage

    try:
        with _silence():
            pipeline = StableDiffusionPipeline.from_pretrained(
                directory,
                text_encoder=_network(CLIPTextModel, directory / "text_encoder", precision),
                unet=_network(UNet2DConditionModel, directory / "unet", precision),
                vae=_network(AutoencoderKL, directory / "vae", precision),
                local_files_only=True,
                safety_checker=None,  # would blacken pictures and so bias the counts
                feature_extractor=None,
                image_encoder=None,
                requires_safety_checker=False,
            )
            if scheduler is not None:
                pipeline.scheduler = _scheduler(scheduler, pipeline.scheduler.config)
    except UserError:
        raise
    except Exception as error:  # whatever a damaged file makes the libraries raise
        raise UserError(f"{directory} cannot be loaded: {one_line(error)}") from error
    _check_fit(directory, pipeline)
    model = TextToImage(pipeline.to(where), name, _defaults(directory))
    if compile:
        pipeline.unet.compile()
    return model


def check_directory(directory: Path) -> None:
    """Raise a UserError unless ``directory`` is a complete Stable Diffusion pipeline in safetensors."""
    index = read_json(
        directory / INDEX, lambda error: f"{directory} is not a diffusers pipeline: {INDEX}: {error}"
    )
    kind = index.get("_class_name")
    if kind != PIPELINE:
        raise UserError(
            f"{directory} is a {kind}: only {PIPELINE} (Stable Diffusion 1.x and 2.x) is supported, "
            "not SDXL, SD 3, FLUX or other kinds"
        )
    for component, allowed in COMPONENTS.items():
        library, class_name = index.get(component) or (None, None)
        if class_name is None or not (directory / component).is_dir():
            raise UserError(f"{directory} is incomplete: it has no {component}")
        if not any(fnmatchcase(f"{library}.{class_name}", pattern) for pattern in allowed):
            raise UserError(
                f"the {component} of {directory} is a {library}.{class_name}: only {' or '.join(allowed)} is "
                "supported, and code that comes with a model is never run"
            )
    if code := next(
        directory.glob("*/*.py"), None
    ):  # diffusers took tokenizer/transformers.py for the library
        raise UserError(f"{code}: code that comes with a model is never run; remove it to load the model")
    for component, stem in WEIGHTS.items():
        _check_weights(directory / component, stem)


def _check_weights(folder: Path, stem: str) -> None:
    for index in folder.glob("*.safetensors.index*.json"):
        _check_parts(index)
    if any((folder / f"{stem}.safetensors{index}").is_file() for index in ("", ".index.json")):
        return
    pickles = sorted(path.name for path in folder.iterdir() if path.suffix in PICKLES)
    if pickles:
        raise UserError(
            f"{folder / pickles[0]} is a pickle, which can run any code when opened: "
            "save the model with safe_serialization=True and use that copy"
        )
    variants = sorted(path.name for path in folder.glob(f"{stem}.*.safetensors"))
    if variants:
        raise UserError(
            f"{folder} holds only a variant, {variants[0]}: "
            f"load the model with diffusers and save it without variant, as {stem}.safetensors"
        )
    raise UserError(f"{folder} is incomplete: it has no {stem}.safetensors")


def _check_parts(index: Path) -> None:
    """Refuse an index of weights that names anything but safetensors files beside it."""
    parts = read_json(index).get("weight_map")
    if not isinstance(parts, dict):
        raise UserError(f"{index}: has no weight_map; get the file again")
    for name in parts.values():
        if not isinstance(name, str) or not re.fullmatch(r"[\w.-]+\.safetensors", name):
            raise UserError(f"{index} names {name!r}: only .safetensors files beside it are read")


def _network(kind: Any, folder: Path, precision: torch.dtype) -> Any:
    """Load one network whole: the libraries would fill what is missing with random numbers."""
    from torch import nn

    network, found = kind.from_pretrained(
        folder, use_safetensors=True, local_files_only=True, output_loading_info=True
    )
    if adapter := sorted(name for name in found["unexpected_keys"] if "lora_" in name):
        raise UserError(
            f"the weights in {folder} hold a LoRA beside the layers, such as {adapter[0]}: "
            "merge it with diffusers (fuse_lora, unload_lora_weights), then save the model again"
        )
    if missing := sorted(found["missing_keys"]):
        raise UserError(
            f"the weights in {folder} are incomplete: {len(missing)} missing, such as {missing[0]}"
        )
    return nn.Module.to(network, dtype=precision)  # not their own `to`, which warns of nothing


def _scheduler(name: str, config: Any) -> Any:
    """Make a scheduler for the noise that ``config``, of another one, says the model was trained with."""
    import diffusers

    kind, differs = SCHEDULERS[name]
    return getattr(diffusers, kind).from_config(config, **differs)


def _check_fit(directory: Path, pipeline: Any) -> None:
    unet, vae, text = pipeline.unet.config, pipeline.vae.config, pipeline.text_encoder.config
    if not unet.sample_size:
        raise UserError(
            f"{directory / 'unet/config.json'}: sample_size is {unet.sample_size}: "
            "write the side of the latents, such as 64 for images of 512 pixels"
        )
    if pipeline.tokenizer.model_max_length > LONGEST_PROMPT:
        raise UserError(
            f"{directory / 'tokenizer'} does not say how long a prompt may be: "
            "add its tokenizer_config.json, with model_max_length"
        )
    checks = {
        "U-Net input channels and autoencoder latents": (unet.in_channels, vae.latent_channels),
        "U-Net cross-attention width and text encoder width": (unet.cross_attention_dim, text.hidden_size),
        "tokenizer length and text encoder positions": (
            pipeline.tokenizer.model_max_length,
            text.max_position_embeddings,
        ),
    }
    for what, (left, right) in checks.items():
        if left != right:
            raise UserError(f"the parts of {directory} do not fit together: {what} are {left} and {right}")


def _defaults(directory: Path) -> Defaults:
    from fairbench.models.text_to_image import Defaults

    path = directory / "fairbench.json"
    if not path.exists():
        return Defaults()
    try:
        return Defaults.model_validate(
            read_json(path, lambda error: f"the defaults of {directory} are unreadable: {path.name}: {error}")
        )
    except ValidationError as error:
        raise invalid(str(path), error) from error


def _placement(device: str, dtype: str) -> tuple[torch.device, torch.dtype]:
    """Return where the weights go and as what; by itself half precision only where it is made for bfloat16.

    In float16 gradients vanish and large models overflow, so it is for those who ask for it.
    """
    import torch

    if dtype not in DTYPES:
        raise unknown("dtype", dtype, DTYPES)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        where = torch.device(device)
        torch.empty(0, device=where)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device {device!r} cannot be used: {one_line(error)}") from error
    if where.type != "cuda":
        if dtype not in ("auto", "float32"):
            raise UserError(f"dtype {dtype} needs a cuda device; on {where} leave dtype out")
        return where, torch.float32
    if dtype != "auto":
        return where, getattr(torch, dtype)
    # from Ampere on; older cards make up for it in software
    made_for_bfloat16 = torch.cuda.get_device_capability(where) >= (8, 0)
    return where, torch.bfloat16 if made_for_bfloat16 else torch.float32


def _check_compiler(where: torch.device) -> None:
    """Raise a ``UserError`` where this machine cannot compile, before anything is generated."""
    import torch

    try:
        torch.compile(lambda x: x + 1)(torch.zeros(2, device=where))
    except Exception as error:  # whatever the compiler, or what it calls, raises
        raise UserError(f"compile=true: torch.compile does not work here: {one_line(error)}") from error


def _call(name: str, factory: Callable[..., Any], options: dict[str, Any], /, **given: Any) -> Any:
    try:
        inspect.signature(factory).bind(**given, **options)
    except TypeError as error:
        raise UserError(f"options of model {name!r}: {error}") from error
    return factory(**given, **options)


@contextmanager
def _silence() -> Iterator[None]:
    """Keep the libraries' bars and remarks off the screen: what matters of them is raised by us."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    loggers = (diffusers_logging, transformers_logging)
    before = [(each, each.get_verbosity(), each.is_progress_bar_enabled()) for each in loggers]
    for each in loggers:
        each.set_verbosity(each.CRITICAL)
        each.disable_progress_bar()
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        for each, verbosity, bars in before:
            each.set_verbosity(verbosity)
            if bars:
                each.enable_progress_bar()
