"""How many images a model samples at once, and how many of them it decodes at once.

As many as a GPU has memory for, or keep the cache of a CPU busy; fewer once memory has run out all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fairbench.models.capacity import CudaMemory, Memory, attempt, fitting, halving, tell, too_large

if TYPE_CHECKING:
    from fairbench.models.text_to_image import TextToImage

MOST = 256
"""More images at once gain nothing, and a kill costs all of them."""
MOST_ON_CPU = 16
LATENTS = 2**18
"""Latent pixels sampled at once on a GPU, at most: 256 images of 8 x 8 latents, 64 of 64 x 64."""
LATENTS_ON_CPU = 2**14
"""Latent pixels sampled at once on a CPU: 16 images of up to 32 x 32 latents, 4 of 64 x 64."""
PIXELS_ON_CPU = 2**20
"""Pixels decoded at once on a CPU: 256 images of 64 x 64, or 4 of 512 x 512."""
TILED_ABOVE = 768
"""Pixels of the longer side above which a decoder may work in tiles, where one whole image does not fit."""


@dataclass
class Portions:
    """Images sampled at once, and images decoded at once."""

    sampled: int
    decoded: int

    @classmethod
    def of(cls, model: TextToImage, memory: Memory | None = None) -> Portions:
        """Find out for ``model``; ``memory`` is that of its GPU unless given."""
        latents = model.noise([0])
        area = latents.shape[-2] * latents.shape[-1]
        if memory is None and latents.device.type != "cuda":
            sampled = max(1, min(MOST_ON_CPU, LATENTS_ON_CPU // area))
            return cls(sampled, decoded_on_cpu(model, area))
        memory = memory or CudaMemory(latents.device)
        most = max(1, min(MOST, LATENTS // area))
        with torch.inference_mode(), uncounted(model):
            sampled = fitting(lambda count: _one_step(model, latents, count), most, memory)
            decoded = fitting(lambda count: model.decode(latents.expand(count, -1, -1, -1)), most, memory)
        return cls(max(1, sampled), max(1, decoded))

    def sample(self, model: TextToImage, left: int, sample: Callable[[int], Tensor]) -> Tensor:
        """Return the latents of up to ``left`` images; ``sample(count)`` makes them."""
        asked = min(self.sampled, left)
        latents, count = halving(sample, asked, "sampled")
        if latents is None:
            raise too_large(model.device, "sampled")
        if count < asked:
            self.sampled = count
        return latents

    def decode(self, model: TextToImage, latents: Tensor) -> Tensor:
        """Return the pictures of N latents, clamped to [0, 1], on the CPU."""

        def decode(count: int) -> Tensor:
            return torch.cat([model.decode(part).clamp(0, 1).cpu() for part in latents.split(count)])

        asked = min(self.decoded, len(latents))
        pictures, count = halving(decode, asked, "decoded")
        if pictures is None and (side := 8 * max(latents.shape[-2:])) > TILED_ABOVE:
            model.pipeline.vae.enable_tiling()
            tell(f"memory ran out: images of {side} pixels are decoded in tiles, which may show at the seams")
            pictures = attempt(lambda: decode(1))
        if pictures is None:
            raise too_large(model.device, "decoded")
        if count < asked:
            self.decoded = count
        return pictures


@contextmanager
def uncounted(model: TextToImage) -> Iterator[None]:
    """Leave ``unet_rows`` as it is: what is only tried out makes no image."""
    rows = model.unet_rows
    try:
        yield
    finally:
        model.unet_rows = rows


def decoded_on_cpu(model: TextToImage, area: int) -> int:
    """Return how many images of ``area`` latent pixels are decoded at once on a CPU."""
    factor = 2 ** (len(model.pipeline.vae.config.block_out_channels) - 1)
    return max(1, PIXELS_ON_CPU // (area * factor**2))


def _one_step(model: TextToImage, latents: Tensor, count: int) -> None:
    conditioning = model.encode([""] * count)
    inputs = latents.expand(count, -1, -1, -1)
    model.predict_noise(inputs, torch.tensor(1), conditioning, model.defaults.guidance)
