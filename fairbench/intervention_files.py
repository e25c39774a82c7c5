"""An intervention on disk: weights as safetensors, settings as JSON, and a README.md for whoever finds it.

The card says what it is, how to load it without this package, what was measured, and its limits.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from fairbench.draws import DrawClass
from fairbench.errors import UserError
from fairbench.intervention import Intervention
from fairbench.markdown import escaped, markdown_table
from fairbench.storage import (
    atomic_write_json,
    atomic_write_tensors,
    atomic_write_text,
    read_json,
    read_tensors,
)

if TYPE_CHECKING:
    from torch import Tensor

DRAWN = {
    "emergent": "the model itself decides, image by image",
    "drawn": "the harness drew an attribute for every image",
    "coupled": "a batch of images is balanced together",
}
LORA, MATRICES, TENSORS = "pytorch_lora_weights.safetensors", "matrices.safetensors", "tensors.safetensors"
"""What ``load_lora_weights`` reads; whole matrices of the U-Net; whatever a method alone understands."""
DOWN, UP = ".lora_A.weight", ".lora_B.weight"
"""The two halves of a layer of a LoRA."""
PROMPT = "a photo of the face of a geologist, a person"
LIMITS = """\
- Measured as a classifier sees gender presentation, race and age; no classifier sees identity.
- What was balanced is balanced for prompts like those it learnt from. Measure anew for any others.
- A smaller gap on average does not say that every prompt has one: look at the prompts one by one.
- It changes what a model draws, not what anybody does with the pictures."""


SCHEMA_VERSION = 1
EMBEDDINGS = "learned_embeds.safetensors"
SETTINGS = "intervention.json"
CARD = "README.md"


def weights_file(intervention: Intervention) -> str | None:
    """The name of the file that ``tensors`` go into: it says what they are."""
    if not intervention.tensors:
        return None
    if all(name.endswith((DOWN, UP)) for name in intervention.tensors):
        return LORA
    return MATRICES if all(name.startswith("unet.") for name in intervention.tensors) else TENSORS


def save_intervention(
    intervention: Intervention, directory: Path | str, measured: Sequence[Mapping[str, Any]] = ()
) -> None:
    """Write the weights (where there are any), a model card, then the settings, into ``directory``.

    ``measured`` goes into the card, see `model_card`.
    """
    directory, weights = Path(directory), weights_file(intervention)
    if weights:
        atomic_write_tensors(directory / weights, intervention.tensors, {"format": "pt"})
    if intervention.embeddings:
        atomic_write_tensors(directory / EMBEDDINGS, intervention.embeddings, {"format": "pt"})
    atomic_write_text(directory / CARD, model_card(intervention, measured))
    description = {
        "schema_version": SCHEMA_VERSION,
        "method": intervention.method,
        "draw_class": intervention.draw_class,
        "settings": intervention.settings,
        "weights": weights,
        "embeddings": EMBEDDINGS if intervention.embeddings else None,
    }
    atomic_write_json(directory / SETTINGS, description)


def load_intervention(directory: Path | str) -> Intervention:
    """Read what `save_intervention` wrote.

    Raises
    ------
    UserError
        If a file is missing, broken, or of another version of the format; or what is asked of the
        intervention later is not in it.
    """
    directory = Path(directory)

    def worded(error: object) -> str:
        if isinstance(error, FileNotFoundError):
            return f"{error.filename}: no such file; is {directory} an adapter directory?"
        if isinstance(error, OSError):
            return f"{error.filename}: cannot be read: {error.strerror}"
        return f"{directory}: not an adapter that fairbench saved ({error})"

    description = read_json(directory / SETTINGS, worded)
    try:
        version = description["schema_version"]
        if version != SCHEMA_VERSION or description["draw_class"] not in get_args(DrawClass):
            raise UserError(f"{directory / SETTINGS}: format {version} is unknown; update fairbench")
        name = description["weights"]
        if name not in (LORA, MATRICES, TENSORS, None):
            raise ValueError(f"weights in {name!r}")
        weights = _tensors(directory / name) if name else {}
        embeddings = _tensors(directory / EMBEDDINGS) if description.get("embeddings") else {}
        method, settings = str(description["method"]), _Found(directory / SETTINGS, description["settings"])
        return Intervention(method, description["draw_class"], weights, settings, embeddings)
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(worded(error)) from None


class _Found(dict[str, Any]):
    """What a file holds; what it lacks is a fault of the file, and not of the method that asks for it."""

    def __init__(self, path: Path, content: Mapping[str, Any]) -> None:
        super().__init__(content)
        self._path = path

    def __missing__(self, key: str) -> Any:
        raise UserError(f"{self._path}: lacks {key}: restore it from a copy")


def _tensors(path: Path) -> dict[str, Tensor]:
    """Read weights, none of which is missing as far as can be told from their names."""
    tensors = _Found(path, read_tensors(path))
    if not tensors:
        raise UserError(f"{path}: holds nothing: restore it from a copy")
    if path.name == TENSORS:  # which the method alone understands
        return tensors
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            raise UserError(f"{path}: {name} is not of floating-point numbers: restore it from a copy")
        for half, other in ((DOWN, UP), (UP, DOWN)):
            if name.endswith(half) and (pair := name.removesuffix(half) + other) not in tensors:
                raise UserError(f"{path}: lacks {pair}: restore it from a copy")
    return tensors


def model_card(intervention: Intervention, measured: Sequence[Mapping[str, Any]] = ()) -> str:
    """Return Markdown.

    Parameters
    ----------
    intervention : Intervention
    measured : sequence of mappings
        Rows with ``what``, ``before`` and ``after``, already worded.
    """
    settings = intervention.settings
    about = {
        "base model": settings.get("model"),
        "method": intervention.method,
        "who chooses the attribute": DRAWN[intervention.draw_class],
        "tuned": settings.get("tune"),
        "attributes": ", ".join(settings.get("attributes", ())),
        "target": "; ".join(
            f"{name} {' / '.join(f'{share:g}' for share in shares)}"
            for name, shares in settings.get("target", {}).items()
        ),
        "prompts it learnt from": settings.get("suite"),
        "judge it learnt from": ", ".join(settings.get("judge", ())),
        "updates": settings.get("updates"),
        "seed": settings.get("seed"),
    }
    parts = [
        "---\nlibrary_name: diffusers\ntags: [text-to-image, fairness, fairbench]\n---",
        "# " + escaped(intervention.method + (f" for {settings['model']}" if "model" in settings else "")),
        "What a debiasing method of [fairbench](https://pypi.org/project/fairbench-t2i/) learnt.",
        markdown_table(("", ""), [(key, value) for key, value in about.items() if value not in (None, "")]),
        "## Use",
        _usage(intervention),
        "## Measured",
        markdown_table(
            ("", "before", "after"), [(row["what"], row["before"], row["after"]) for row in measured]
        )
        if measured
        else "Nothing yet: `fairbench run` measures it on prompts it never saw.",
        "## Limits",
        LIMITS,
    ]
    return "\n\n".join(parts) + "\n"


def _usage(intervention: Intervention) -> str:
    calls, prompt = [], PROMPT
    if weights_file(intervention) == LORA:
        calls.append('pipeline.load_lora_weights("this/directory")')
    if weights_file(intervention) == MATRICES:
        calls += [
            f'weights = safetensors.torch.load_file("this/directory/{MATRICES}")',
            'weights = {name.removeprefix("unet."): weight for name, weight in weights.items()}',
            "pipeline.unet.load_state_dict(weights, strict=False)",
        ]
    if tokens := list(intervention.embeddings):
        calls.append(
            'pipeline.load_textual_inversion("this/directory", weight_name="learned_embeds.safetensors")'
        )
        if intervention.draw_class == "drawn":
            words = " ".join(", ".join(tokens).split())
            calls.append(f"# one word per class, to be drawn for every image: {words}")
            prompt = f"{PROMPT} {tokens[0]}"
        else:
            prompt = "".join(tokens) + PROMPT
    if not calls or weights_file(intervention) == TENSORS:
        return "With fairbench alone: what was learnt is more than weights that a pipeline could load."
    code = ["# pipeline: the base model, as a diffusers StableDiffusionPipeline", *calls]
    return "\n".join(["```python", *code, f"pipeline({json.dumps(prompt, ensure_ascii=False)})", "```"])
