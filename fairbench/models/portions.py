"""How many images a model samples at once, and how many of them it decodes at once.

As many as a GPU has memory for, or keep the cache of a CPU busy; fewer once memory has run out all the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fairbench.models.capacity import AtOnce, CudaMemory, Memory, attempt, fitting, tell, too_large
from fairbench.precision import exact

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

    sampled: AtOnce
    decoded: AtOnce

    @classmethod
    def of(cls, model: TextToImage, memory: Memory | None = None) -> Portions:
        """Find out for ``model``; ``memory`` is that of its GPU unless given.

        On a GPU it is a power of two: a little more or less of free memory does not change what is rounded.
        """
        latents = model.noise([0])
        area = latents.shape[-2] * latents.shape[-1]
        if memory is None and latents.device.type != "cuda":
            sampled = max(1, min(MOST_ON_CPU, LATENTS_ON_CPU // area))
            return cls(AtOnce(sampled, "sampled"), AtOnce(decoded_on_cpu(model, area), "decoded"))
        memory = memory or CudaMemory(latents.device)
        most = max(1, min(MOST, LATENTS // area))
        with torch.inference_mode(), exact(), uncounted(model):
            sampled = fitting(lambda count: _one_step(model, latents, count), most, memory)
            decoded = fitting(lambda count: model.decode(latents.expand(count, -1, -1, -1)), most, memory)
        return cls(AtOnce(_power_of_two(sampled), "sampled"), AtOnce(_power_of_two(decoded), "decoded"))

    def decode(self, model: TextToImage, latents: Tensor) -> Tensor:
        """Return the pictures of N latents, clamped to [0, 1], on the CPU; what is not finite becomes nan."""

        def decode(count: int) -> Tensor:
            return torch.cat([_clamped(model.decode(part)).cpu() for part in latents.split(count)])

        pictures = self.decoded.attempt(decode, len(latents))
        if pictures is None and _tiles_help(model, latents):
            model.pipeline.vae.enable_tiling()
            tell("memory ran out: images are decoded in tiles from now on, whose seams may show")
            pictures = attempt(lambda: decode(1))
        if pictures is None:
            raise too_large(model.device, "decoded")
        return pictures


def _clamped(pictures: Tensor) -> Tensor:
    """Keep what is not finite from becoming an ordinary white or black."""
    return pictures.where(pictures.isfinite(), torch.nan).clamp(0, 1)


@contextmanager
def uncounted(model: TextToImage) -> Iterator[None]:
    """Leave ``unet_rows`` as it is: what is only tried out makes no image."""
    rows = model.unet_rows
    try:
        yield
    finally:
        model.unet_rows = rows


@contextmanager
def counted_if_done(model: TextToImage) -> Iterator[None]:
    """Leave ``unet_rows`` as it is where the memory runs out: it is done again."""
    rows = model.unet_rows
    try:
        yield
    except RuntimeError:
        model.unet_rows = rows
        raise


def decoded_on_cpu(model: TextToImage, area: int) -> int:
    """Return how many images of ``area`` latent pixels are decoded at once on a CPU."""
    return max(1, PIXELS_ON_CPU // (area * _enlarged(model) ** 2))


def _enlarged(model: TextToImage) -> int:
    """Return how many pixels the decoder makes of a latent pixel, on each side."""
    return 2 ** (len(model.pipeline.vae.config.block_out_channels) - 1)


def _tiles_help(model: TextToImage, latents: Tensor) -> bool:
    """Tell whether an image is large, and larger than a tile."""
    vae, side = model.pipeline.vae, max(latents.shape[-2:])
    return _enlarged(model) * side > TILED_ABOVE and side > vae.tile_latent_min_size and not vae.use_tiling


def _power_of_two(count: int) -> int:
    return 1 << max(0, count.bit_length() - 1)


def _one_step(model: TextToImage, latents: Tensor, count: int) -> None:
    conditioning = model.encode([""] * count)
    inputs = latents.expand(count, -1, -1, -1)
    model.predict_noise(inputs, torch.tensor(1), conditioning, model.defaults.guidance)
