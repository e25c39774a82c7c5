"""Finished runs as a runner leaves them, made of given chances instead of images."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from fairbench.attributes import ATTRIBUTES

JUDGES = {"judge-a": "a" * 64, "judge-b": "b" * 64, "judge-c": "c" * 64}
TRAINING = {"judge-train": "t" * 64}


def men(share, prompts=30):
    """The chances of female and male, the same or one each for every prompt."""
    share = np.broadcast_to(share, prompts)
    return np.stack([1 - share, share], axis=1)


def store_run(
    path: Path,
    variants: dict[str, np.ndarray],
    *,
    attribute: str = "gender",
    images: int = 16,
    seed: int = 0,
    draw_class: str = "emergent",
    suite: str = "jobs",
    model: str = "world",
    model_sha256: str | None = None,
    images_sha256: str | None = None,
    target: tuple[float, ...] | None = None,
    judges: dict[str, str] | None = None,
    training: dict[str, str] | None = None,
    errors: dict[str, float] | None = None,
    faces: float = 1.0,
    recognised: float = 0.9,
    noise: int = 0,
    **config,
) -> Path:
    """Store a run of ``variants``: name -> P x K chances of the classes; ``errors``: judge -> rate."""
    rng = np.random.default_rng((seed, noise))
    judges, training = judges or JUDGES, training or {}
    tables = []
    for variant, chances in variants.items():
        prompts, classes = chances.shape
        ids = np.repeat([f"job-{number}" for number in range(prompts)], images)
        truth = np.concatenate([rng.choice(classes, images, p=row) for row in chances])
        table = pd.DataFrame(
            {
                "variant": variant,
                "prompt_id": ids,
                "prompt": [f"face of a {name} of {suite}" for name in ids],
                "image_index": np.tile(np.arange(images), prompts),
                "clip_t": rng.normal(0.3, 0.02, len(ids)),
            }
        )
        seen = rng.uniform(size=len(ids)) < faces
        for judge in (*judges, *training):
            wrong = rng.uniform(size=len(ids)) < (errors or {}).get(judge, 0.0)
            label = np.where(wrong, rng.integers(0, classes, len(ids)), truth)
            table[f"{judge}/face"] = np.where(seen, 0.9, 0.1)
            for number, name in enumerate(ATTRIBUTES[attribute]):
                table[f"{judge}/{attribute}/{name}"] = np.where(label == number, 0.9, 0.01)
            table[f"{judge}/recognised"] = rng.uniform(size=len(ids)) < recognised
        tables.append(table)
    path.mkdir(parents=True)
    method = next((name for name in variants if name != "original"), "original")
    size = len(ATTRIBUTES[attribute])
    metrics = {
        "schema_version": 1,
        "method": method,
        "draw_class": draw_class,
        "model": model,
        "suite": suite,
        "attributes": [attribute],
        "target": {attribute: target or [1 / size] * size},
        "primary_judge": next(iter(judges)),
        "evaluation_judges": [*judges],
        "training_judge": next(iter(training), None),
        "variants": {name: {"bias": {}, "judges": {}, "quality": {}} for name in variants},
        "paired": {},
        "gaming_gap": {},
        "notes": [],
    }
    hashes = {"suite": suite.ljust(64, "0"), "judges": judges, "training_judge": training}
    hashes |= {"model": {model: model_sha256}} | ({"images": images_sha256} if images_sha256 else {})
    seconds = {"original images": 8.0, "debiased images": 8.0, "judging": 2.0, "finetuning": 60.0}
    settings = {"method": method, "model": model, "suite": suite, "seed": seed, "images_per_prompt": images}
    (path / "config.yaml").write_text(yaml.safe_dump(settings | config))
    (path / "provenance.json").write_text(
        json.dumps({"schema_version": 1, "sha256": hashes, "seconds": seconds})
    )
    (path / "metrics.json").write_text(json.dumps(metrics))
    pd.concat(tables, ignore_index=True).to_parquet(path / "records.parquet", index=False)
    (path / "status.json").write_text(json.dumps({"schema_version": 1, "status": "finished"}))
    return path
