"""The training set of the world: pictures, captions and labels, drawn once and kept in the work directory."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from fairbench.attributes import ATTRIBUTES
from fairbench.portraits.build.loop import DEVICE
from fairbench.portraits.captions import draw_captioned
from fairbench.portraits.drawing import draw_people
from fairbench.portraits.world import roles
from fairbench.storage import atomic_write_json

CHUNK = 2000


@dataclass(frozen=True)
class Pictures:
    """N captioned pictures.

    ``pixels`` N x 3 x 64 x 64 uint8; ``labels`` per attribute N class indices, with "concept" (the role)
    and "face" (0 or 1).
    """

    pixels: torch.Tensor
    captions: list[str]
    labels: dict[str, torch.Tensor]

    def images(self, index: torch.Tensor) -> torch.Tensor:
        """Return the pictures at ``index`` as float32 in [0, 1], channels last, on the training device."""
        images = self.pixels[index].float() / 255
        return images.contiguous(memory_format=torch.channels_last).to(DEVICE)


def load_or_draw(directory: Path, count: int, seed: int) -> Pictures:
    """Return ``count`` pictures, drawing those that the directory does not hold yet."""
    directory.mkdir(parents=True, exist_ok=True)
    chunks = [_chunk(directory, index, seed) for index in range(count // CHUNK)]
    labels = {name: torch.cat([chunk.labels[name] for chunk in chunks]) for name in chunks[0].labels}
    captions = [caption for chunk in chunks for caption in chunk.captions]
    return Pictures(torch.cat([chunk.pixels for chunk in chunks]), captions, labels)


def _chunk(directory: Path, index: int, seed: int) -> Pictures:
    pixels_file, text_file = directory / f"{seed}-{index:03d}.npy", directory / f"{seed}-{index:03d}.json"
    if not text_file.exists():
        _draw_chunk(pixels_file, text_file, np.random.default_rng((seed, index)))
    stored = json.loads(text_file.read_text())
    labels = {name: torch.tensor(values) for name, values in stored["labels"].items()}
    return Pictures(torch.from_numpy(np.load(pixels_file)), stored["captions"], labels)


def _draw_chunk(pixels_file: Path, text_file: Path, rng: np.random.Generator) -> None:
    world = list(roles().values())
    position = {role.name: index for index, role in enumerate(world)}
    people, captions = zip(*(draw_captioned(rng, world) for _ in range(CHUNK)), strict=True)
    labels = {name: [person.attributes[name] for person in people] for name in ATTRIBUTES}
    labels["concept"] = [position[person.role.name] for person in people]
    labels["face"] = [int(person.face) for person in people]
    np.save(pixels_file, draw_people(people).transpose(0, 3, 1, 2))
    atomic_write_json(text_file, {"captions": captions, "labels": labels})
