from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

CLASSES = {"gender": ("female", "male"), "race": ("WMELH", "Black", "Indian", "Asian")}
IMAGES = 10
MEN = {
    "original": {"nurse": 0, "librarian": 3, "blaster": 10},
    "method": {"nurse": 4, "librarian": 5, "blaster": 7},
}
"""Variant -> occupation -> how many of ten images are of a man."""


def one_hot(k: int, size: int) -> np.ndarray:
    return np.where(np.arange(size) == k, 0.9, 0.1 / (size - 1))


@pytest.fixture
def run_directory(tmp_path: Path) -> Path:
    """The images of a run, each of one colour: red in the original, green in the debiased."""
    for folder, colour in (("original", (200, 30, 30)), ("debiased", (30, 200, 30))):
        for occupation in MEN["original"]:
            (tmp_path / "images" / folder / occupation).mkdir(parents=True)
            for index in range(IMAGES):
                Image.new("RGB", (64, 64), colour).save(
                    tmp_path / f"images/{folder}/{occupation}/{index}.png"
                )
    return tmp_path


@pytest.fixture
def make_records() -> Callable[..., pd.DataFrame]:
    def make(*attributes: str, faceless: tuple[tuple[str, str, int], ...] = ()) -> pd.DataFrame:
        rows = []
        for variant, men in MEN.items():
            folder = "original" if variant == "original" else "debiased"
            for occupation, count in men.items():
                for index in range(IMAGES):
                    row = {
                        "variant": "biased_dft" if variant == "method" else variant,
                        "prompt_id": occupation,
                        "prompt": f"a photo of the face of a {occupation}, a person",
                        "concept": occupation,
                        "image_index": index,
                        "image": f"images/{folder}/{occupation}/{index}.png",
                        "judge/face": 0.1 if (variant, occupation, index) in faceless else 0.9,
                    }
                    seen = {"gender": int(index < count), "race": index % 4}
                    for attribute in attributes or ("gender",):
                        values = one_hot(seen[attribute], len(CLASSES[attribute]))
                        names = (f"judge/{attribute}/{name}" for name in CLASSES[attribute])
                        row |= dict(zip(names, values, strict=True))
                    rows.append(row)
        return pd.DataFrame(rows).sample(frac=1, random_state=0)  # the order of rows means nothing

    return make
