"""Folders of pictures, and the settings of an evaluation of one."""

import numpy as np
from PIL import Image


def config_of(small, images, **changes):
    fields = {"method": "original", "model": "somebodys", "images": str(images), "suite": "own"}
    quick = {"training_judge": None, "training_features": [], "steps": None, "guidance": None}
    return small.config(**(fields | quick | changes))


def picture(path, seed=0, size=(64, 64), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, len(mode)), dtype=np.uint8)
    Image.fromarray(pixels.squeeze(), mode).save(path)
    return path


def folder_of(place, prompts, each, seed=0):
    """A folder of each prompt, with pictures of noise."""
    for number, prompt in enumerate(prompts):
        for k in range(each):
            picture(place / prompt / f"img_{k}.png", seed + number * each + k)
    return place
