"""How long 10,000 stored records take to score, and 2,000 images to judge (``--benchmark-enable``)."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from fairbench.attributes import ATTRIBUTES
from fairbench.images.files import save_image
from fairbench.images.rows import read_back
from fairbench.judges import load_judge
from fairbench.portraits.renderer import PortraitsRenderer
from fairbench.scoring.judging import look
from fairbench.scoring.score import score_records
from fairbench.store.measurement import JudgeUsed, Measurement

JUDGES = ("a", "b", "train")


def records(variant: str, prompts: int, each: int, rng: np.random.Generator) -> pd.DataFrame:
    """Records of one variant, as three judges see them."""
    count = prompts * each
    table = pd.DataFrame(
        {
            "variant": variant,
            "prompt_id": np.repeat([f"prompt_{k}" for k in range(prompts)], each),
            "prompt": np.repeat([f"a photo of {k}" for k in range(prompts)], each),
            "clip_t": rng.random(count),
            "clip_i": rng.random(count),
            "dino": rng.random(count),
        }
    )
    for judge in JUDGES:
        table[f"{judge}/face"] = rng.random(count) + 0.45
        table[f"{judge}/recognised"] = pd.array(rng.random(count) < 0.9, dtype="boolean")
        for attribute, labels in ATTRIBUTES.items():
            probabilities = rng.dirichlet(np.ones(len(labels)), size=count)
            table[[f"{judge}/{attribute}/{label}" for label in labels]] = probabilities
    return table


def test_scoring(benchmark: Any) -> None:
    rng = np.random.default_rng(0)
    prompts, each = (50, 100) if benchmark.enabled else (5, 4)
    both = [records(variant, prompts, each, rng) for variant in ("original", "method")]
    reference = records("reference", prompts, each, rng)
    features = {
        f"ssl/{name}": torch.from_numpy(rng.normal(size=(prompts * each, 128)))
        for name in ("original", "method", "reference")
    }
    measurement = Measurement(
        method="method", draw_class="emergent", model="model", suite="suite", attributes=("gender", "race"),
        target={"gender": (0.5, 0.5), "race": (0.25,) * 4}, network="ssl",
        judges=tuple(
            JudgeUsed(name=name, trained=name == "train", attributes=ATTRIBUTES) for name in JUDGES
        ),
    )  # fmt: skip
    table = pd.concat(both, ignore_index=True)
    found = benchmark.pedantic(score_records, (table, features, measurement, reference), rounds=1)
    assert found["variants"]["method"]["quality"]["kid_matched"]["compared"] > 0


def test_judging(benchmark: Any, tmp_path: Path) -> None:
    count = 2000 if benchmark.enabled else 8
    pictures = PortraitsRenderer().generate(["a photo of a senator"] * count, list(range(count)))
    rows = pd.DataFrame({"image": [f"{k}.png" for k in range(count)], "concept": "senator"})
    for picture, name in zip(pictures, rows["image"], strict=True):
        save_image(tmp_path / name, picture)
    judge = load_judge("portraits-eval-a")
    columns, _ = benchmark.pedantic(
        lambda: look(read_back(rows, tmp_path), [judge], []), rounds=1, warmup_rounds=1
    )
    assert len(columns) == count
    assert list(columns.index) == list(range(count))
