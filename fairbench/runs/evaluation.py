"""From records to ``metrics.json``: every number of a run, computed by `fairbench.metrics`, in its place."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fairbench.attributes import ATTRIBUTES
from fairbench.metrics.quality import fid, kid, similarity
from fairbench.metrics.significance import paired_permutation_test
from fairbench.metrics.summary import FACE_THRESHOLD, summarise
from fairbench.runs.registry import ORIGINAL
from fairbench.seeding import image_seed

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

    from fairbench.judges import Judge
    from fairbench.runs.instruments import Instruments
    from fairbench.runs.plan import Plan

SCHEMA_VERSION = 1
CROSSED = ("gender", "race")
"""Measured as an intersection wherever the judge reads both."""
BATCH = 32


def measure(
    records: "pd.DataFrame", features: "Mapping[str, Tensor]", plan: "Plan", instruments: "Instruments"
) -> dict[str, Any]:
    """Return the content of ``metrics.json``.

    Parameters
    ----------
    records
        Of all variants, see `fairbench.runs.records.record`.
    features
        ``{network}/{variant}`` -> N x D.
    plan, instruments
        What was run, and with what.

    Returns
    -------
    ``variants``: per variant ``bias`` (as the primary judge sees it), ``judges`` (as each judge sees it) and
    ``quality``. ``paired``: per attribute the test of debiased against original. ``gaming_gap``: per
    attribute the debiased images' bias as the training judge sees it minus as the evaluation judges do
    (mean); below zero, the method pleases the judge it learnt from more than the others. ``notes``: why a
    number is missing.
    """
    notes: list[str] = []
    reference = _reference_features(plan, instruments)
    variants = {
        str(name): {
            "bias": biases(rows, instruments.judges[0], plan.space.names),
            "judges": {
                judge.name: _without_prompts(biases(rows, judge, plan.space.names))
                for judge in (*instruments.judges, *filter(None, [instruments.training_judge]))
            },
            "quality": _quality(rows, features, reference, instruments, notes),
        }
        for name, rows in records.groupby("variant", sort=False)
    }
    config = plan.config
    return {
        "schema_version": SCHEMA_VERSION,
        "method": spelled(config.method, config.method_options),
        "draw_class": plan.method.draw_class,
        "model": spelled(config.model, config.model_options),
        "suite": plan.suite.name,
        "attributes": list(plan.space.names),
        "target": {name: list(values) for name, values in plan.target.probabilities.items()},
        "primary_judge": instruments.judges[0].name,
        "evaluation_judges": [judge.name for judge in instruments.judges],
        "training_judge": instruments.training_judge.name if instruments.training_judge else None,
        "variants": variants,
        "paired": _paired(variants),
        "gaming_gap": _gaming_gap(variants, instruments),
        "notes": notes,
    }


def biases(rows: "pd.DataFrame", judge: "Judge", asked: Sequence[str]) -> dict[str, Any]:
    """Summarise one variant: what was asked for first, then all else that the judge reads."""
    others = [(name,) for name in ATTRIBUTES if name in judge.attributes]
    crossed = [CROSSED] if set(CROSSED) <= set(judge.attributes) else []
    found: dict[str, Any] = {}
    for names in [tuple(asked), *others, *crossed]:
        if " x ".join(names) not in found:
            found |= summarise(rows, judge.name, names)
    return found


def spelled(name: str, options: Mapping[str, Any]) -> str:
    """Write a name and its options as they are typed: ``portraits-renderer[male=0.5]``."""
    return f"{name}[{','.join(f'{key}={value}' for key, value in options.items())}]" if options else name


def _quality(
    rows: "pd.DataFrame",
    features: "Mapping[str, Tensor]",
    reference: "Mapping[str, Tensor]",
    instruments: "Instruments",
    notes: list[str],
) -> dict[str, Any]:
    """Return recognition, face rate, similarities and the distances to the reference images."""
    variant, judge = str(rows["variant"].iloc[0]), instruments.judges[0].name
    quality: dict[str, Any] = {"face_rate": float((rows[f"{judge}/face"] >= FACE_THRESHOLD).mean())}
    if f"{judge}/recognised" in rows and len(known := rows[f"{judge}/recognised"].dropna()):
        quality["recognised"] = {"mean": float(known.mean()), "images": len(known)}
    quality |= similarity(rows)
    for network, expected in reference.items():
        distance = fid(features[f"{network}/{variant}"], expected)
        quality |= {"fid": distance["value"], "kid": kid(features[f"{network}/{variant}"], expected)}
        notes += [f"FID of {variant}: {distance['reason']}"] if distance["reason"] else []
    return quality


def _reference_features(plan: "Plan", instruments: "Instruments") -> "dict[str, Tensor]":
    """Return the features of as many reference images of each prompt, from noise that no variant has seen."""
    import torch

    network = next((network for network in instruments.features if network.tokenizer is None), None)
    if instruments.reference is None or network is None:
        return {}
    where, seed = (f"{plan.suite.name}/reference", plan.suite.version), plan.config.seed
    wanted = [
        (prompt.text, image_seed(*where, prompt.id, index, seed))
        for prompt in plan.test
        for index in range(plan.config.images_per_prompt)
    ]
    parts = []
    for start in range(0, len(wanted), BATCH):
        prompts, seeds = zip(*wanted[start : start + BATCH], strict=True)
        parts.append(network.batched(instruments.reference.generate(prompts, seeds)).cpu())
    return {network.name: torch.cat(parts)}


def _paired(variants: Mapping[str, Any]) -> dict[str, Any]:
    """Test debiased against original, prompt by prompt, for every attribute."""
    values = [
        {
            name: {row["prompt_id"]: row["bias"] for row in summary["per_prompt"]}
            for name, summary in entry["bias"].items()
        }
        for entry in variants.values()
    ]
    if len(values) < 2:
        return {}
    original, method = values
    return {name: paired_permutation_test(original[name], method[name]) for name in original}


def _gaming_gap(variants: Mapping[str, Any], instruments: "Instruments") -> dict[str, float | None]:
    import numpy as np

    if instruments.training_judge is None:
        return {}
    debiased = next(entry["judges"] for name, entry in variants.items() if name != ORIGINAL)
    learnt = debiased[instruments.training_judge.name]
    gaps: dict[str, float | None] = {}
    for name in learnt:
        others = [debiased[judge.name].get(name, {}).get("bias_mean") for judge in instruments.judges]
        seen = [learnt[name]["bias_mean"], *others]
        gaps[name] = None if None in seen else float(learnt[name]["bias_mean"] - np.mean(others))
    return gaps


def _without_prompts(summaries: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: {key: value for key, value in summary.items() if key != "per_prompt"}
        for name, summary in summaries.items()
    }
