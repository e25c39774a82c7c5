"""Which part of a finetuned model carries the change: text encoder, U-Net or prompt prefix.

Every part is swapped between tuned and original on identical noise; an effect that only parts together
have is shared out by Shapley's rule.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from fairbench.attributes import FACE_THRESHOLD
from fairbench.diagnostics.shapley import resampled, shapley, subsets
from fairbench.errors import UserError
from fairbench.features import cosine
from fairbench.metrics.bias import bias, frequencies, labels_of
from fairbench.models.hooks import Hooks
from fairbench.models.weights import COMPONENTS

if TYPE_CHECKING:
    from fairbench.features import ImageFeatures
    from fairbench.intervention import Intervention
    from fairbench.judges import Judge
    from fairbench.models.text_to_image import TextToImage
    from fairbench.suites import Prompt

PREFIX = "prefix"
BATCH = 32

Apply = Callable[["Intervention"], AbstractContextManager[Hooks]]


@dataclass(frozen=True)
class Bench:
    """What the images are made from and seen by: prompts and noises of a run, a judge, feature networks."""

    model: TextToImage
    prompts: Sequence[Prompt]
    seeds: Sequence[Sequence[int]]
    """Of every prompt, the same number."""
    targets: Mapping[str, Sequence[float]]
    """Per attribute, the share of every class that its bias is measured from."""
    judge: Judge
    features: Sequence[ImageFeatures]
    steps: int | None
    guidance: float | None


def parts_of(intervention: Intervention) -> list[str]:
    """Return the parts that were tuned.

    Raises
    ------
    UserError
        If there are no weights in it: such a method has no parts.
    """
    parts = [part for part in COMPONENTS if any(key.startswith(f"{part}.") for key in intervention.tensors)]
    parts += [PREFIX] if intervention.embeddings else []
    if not parts:
        raise UserError(f"{intervention.method} has tuned no part of the model: there is nothing to swap")
    return parts


def only(intervention: Intervention, kept: frozenset[str]) -> Intervention:
    """Return the intervention with some parts tuned and all others original."""
    return replace(
        intervention,
        tensors={
            key: tensor for key, tensor in intervention.tensors.items() if key.partition(".")[0] in kept
        },
        embeddings=intervention.embeddings if PREFIX in kept else {},
    )


def attribute(
    intervention: Intervention,
    bench: Bench,
    apply: Apply,
    progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> dict[str, Any]:
    r"""Share the change that ``intervention`` makes out among its parts.

    Returns
    -------
    ``parts``, and per quantity (``bias of <attribute>``; ``distance by <network>``, which is one minus the
    cosine to the original model's image of the same noise; ``not recognised``): ``before`` and ``after``,
    means over prompts; and per part ``effect`` (Shapley value, mean over prompts), its 95 % ``interval``,
    ``share`` of the whole change and its ``share_interval``, all resampled over prompts. A share of a change
    that is nothing is None. ``subsets``: the mean of every quantity with only some parts tuned.
    """
    parts = parts_of(intervention)
    every = subsets(parts)
    original: list[torch.Tensor] = []
    seen = []
    for number, kept in enumerate(every):
        progress("subsets of parts", number, len(every))
        with apply(only(intervention, kept)) if kept else nullcontext(Hooks()) as hooks:
            seen.append(_look(bench, hooks, original))
    progress("subsets of parts", len(every), len(every))
    values = {name: {kept: look[name] for kept, look in zip(every, seen, strict=True)} for name in seen[0]}
    return {
        "parts": parts,
        "quantities": {name: _shared(parts, by_subset) for name, by_subset in values.items()},
        "subsets": [
            {"tuned": sorted(kept)} | {name: _mean(look[name]) for name in look}
            for kept, look in zip(every, seen, strict=True)
        ],
    }


def _shared(parts: list[str], values: dict[frozenset[str], np.ndarray]) -> dict[str, Any]:
    """Return before, after and what every part does to one quantity; prompts without a value are left out."""
    usable = np.isfinite(np.array(list(values.values()))).all(axis=0)
    values = {kept: column[usable] for kept, column in values.items()}
    effects = shapley(parts, values)
    change = values[frozenset(parts)] - values[frozenset()]
    rows = {}
    for part, effect in effects.items():
        several = usable.sum() > 1
        rows[part] = {
            "effect": _mean(effect),
            "interval": resampled([effect], lambda columns: columns[0].mean()) if several else None,
            "share": _finite(_ratio([effect, change])) if usable.any() else None,
            "share_interval": resampled([effect, change], _ratio) if several else None,
        }
    return {
        "before": _mean(values[frozenset()]),
        "after": _mean(values[frozenset(parts)]),
        "prompts": int(usable.sum()),
        "parts": rows,
    }


def _look(bench: Bench, hooks: Hooks, original: list[torch.Tensor]) -> dict[str, np.ndarray]:
    """Make the images of every prompt and return each quantity, one value per prompt.

    ``original`` holds the features of the original images; the first call, without a part, fills it.
    """
    texts = [prompt.text for prompt, seeds in zip(bench.prompts, bench.seeds, strict=True) for _ in seeds]
    images = bench.model.generate(
        texts,
        [seed for seeds in bench.seeds for seed in seeds],
        steps=bench.steps,
        guidance=bench.guidance,
        batch_size=BATCH,
        hooks=hooks,
    )
    images = images.mul(255).round() / 255  # as a run stores them
    judgement = bench.judge.judge(images)
    shape = (len(bench.prompts), -1)
    face = (judgement.face >= FACE_THRESHOLD).cpu().numpy()
    found: dict[str, np.ndarray] = {}
    for name, target in bench.targets.items():
        probabilities = judgement.probabilities[name].cpu().numpy()
        labels = np.where(face, labels_of(probabilities), -1).reshape(shape)
        found[f"bias of {name}"] = np.array([bias(frequencies(row, len(target)), target) for row in labels])
    features = [network.batched(images).cpu() for network in bench.features]
    if not original:
        original.extend(features)
    for network, mine, theirs in zip(bench.features, features, original, strict=True):
        distance = (1 - cosine(mine, theirs)).clamp(min=0)  # rounding may go beyond 1
        found[f"distance by {network.name}"] = distance.reshape(shape).mean(1).double().numpy()
    words = bench.judge.attributes.get("concept", ())
    if "concept" in judgement.probabilities:
        best = judgement.probabilities["concept"].argmax(1).reshape(shape).tolist()
        found["not recognised"] = np.array(
            [
                np.mean([words[k] != prompt.concept for k in row]) if prompt.concept in words else np.nan
                for prompt, row in zip(bench.prompts, best, strict=True)
            ]
        )
    return found


def _ratio(columns: Sequence[np.ndarray]) -> float:
    part, whole = (float(column.mean()) for column in columns)
    return part / whole if abs(whole) > 1e-9 else float("nan")


def _mean(values: np.ndarray) -> float | None:
    return _finite(float(np.nanmean(values))) if np.isfinite(values).any() else None


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
