"""The README.md of what a method learnt: what it is, how to load it, what was measured, its limits.

Written for whoever finds the directory without this package.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fairbench.markdown import markdown_table

if TYPE_CHECKING:
    from fairbench.intervention import Intervention

DRAWN = {
    "emergent": "the model itself decides, image by image",
    "drawn": "the harness drew an attribute for every image",
    "coupled": "a batch of images is balanced together",
}
LORA, MATRICES, TENSORS = "pytorch_lora_weights.safetensors", "matrices.safetensors", "tensors.safetensors"
"""What ``load_lora_weights`` reads; whole matrices of the U-Net; whatever a method alone understands."""
PROMPT = "a photo of the face of a geologist, a person"
LIMITS = """\
- Measured as a classifier sees gender presentation, race and age; no classifier sees identity.
- What was balanced is balanced for prompts like those it learnt from. Measure anew for any others.
- A smaller gap on average does not say that every prompt has one: look at the prompts one by one.
- It changes what a model draws, not what anybody does with the pictures."""


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
        f"# {intervention.method}" + (f" for {settings['model']}" if "model" in settings else ""),
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
    if intervention.weights_file == LORA:
        calls.append('pipeline.load_lora_weights("this/directory")')
    if intervention.weights_file == MATRICES:
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
            calls.append(f"# one word per class, to be drawn for every image: {', '.join(tokens)}")
            prompt = f"{PROMPT} {tokens[0]}"
        else:
            prompt = "".join(tokens) + PROMPT
    if not calls or intervention.weights_file == TENSORS:
        return "With fairbench alone: what was learnt is more than weights that a pipeline could load."
    code = ["# pipeline: the base model, as a diffusers StableDiffusionPipeline", *calls]
    return "\n".join(["```python", *code, f'pipeline("{prompt}")', "```"])
