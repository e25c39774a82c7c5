"""How much of an update is taken in one pass: tried out on a GPU, a matter of cache on a CPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from fairbench.finetuning.gradient import chunk_rows
from fairbench.models.capacity import CudaMemory, Memory, fitting, too_large
from fairbench.models.hooks import Conditioning
from fairbench.models.portions import decoded_on_cpu, uncounted
from fairbench.models.text_to_image import TextToImage
from fairbench.precision import fast

MOST = 4096
"""More rows at once gain nothing, on any card."""
GRAPH_PIXELS = 12288
"""Latent pixels that keep their graph while sampling on a CPU: 192 rows of 8 x 8, 3 of 64 x 64."""
GRAPH_SHARE = 8
"""One in so many of the rows that fit on a GPU keep their graph while sampling: the loss needs room too."""


@dataclass
class GradientPortions:
    """In what portions an update is taken: a matter of memory and time, and of nothing else.

    Attributes
    ----------
    rows
        (image, step) pairs that have a gradient in one pass of the U-Net.
    graphs
        Rows that keep their graph while sampling.
    pictures
        Decoded, judged and compared in one pass with gradient.
    sampled
        Sampled in one pass without gradient.
    """

    rows: int
    graphs: int
    pictures: int
    sampled: int

    def halve(self) -> bool:
        """Take half of everything; false where there is nothing left to halve."""
        if max(self.rows, self.pictures, self.sampled) == 1 and not self.graphs:
            return False
        self.rows, self.pictures, self.sampled = (
            max(1, count // 2) for count in (self.rows, self.pictures, self.sampled)
        )
        self.graphs //= 2
        return True


def portions(
    model: TextToImage,
    length: int,
    learn: Callable[[torch.Tensor], torch.Tensor],
    rows: int | str,
    pictures: int | str,
    checkpointing: bool | str = "auto",
    memory: Memory | None = None,
) -> GradientPortions:
    """Find the portions of one update, and set up the U-Net for them.

    Parameters
    ----------
    model : TextToImage
    length : int
        Images of one update; there is no use for more pictures at once.
    learn : callable
        From latents N x C x h x w to a scalar, through decoder, judge and feature networks.
    rows, pictures
        Numbers are taken as they are, ``"auto"`` is found out.
    checkpointing
        Whether the U-Net keeps the inputs of its blocks alone and computes the rest once more on the way
        back; ``"auto"``: where not one row would fit otherwise.
    memory
        That of the model's GPU unless given.

    Raises
    ------
    UserError
        If not even one row, or one picture, fits into the memory of a GPU.
    """
    latents = model.noise([0])
    area = latents.shape[-2] * latents.shape[-1]
    if memory is None and latents.device.type == "cuda":
        memory = CudaMemory(latents.device)

    def decoded(count: int) -> None:
        learn(latents.repeat(count, 1, 1, 1).requires_grad_()).backward()

    checkpoint(model, checkpointing is True)
    graphs = rows
    with fast(), uncounted(model):
        if rows == "auto":
            if memory is None:
                rows, graphs = chunk_rows(latents), GRAPH_PIXELS // area
            else:
                rows = _fitting_rows(model, latents, memory, checkpointing == "auto")
                graphs = rows // GRAPH_SHARE
        if pictures == "auto":
            pictures = decoded_on_cpu(model, area) if memory is None else fitting(decoded, length, memory)
    if not (rows and pictures):
        raise too_large(latents.device, "finetuned on")
    return GradientPortions(int(rows), int(graphs), min(length, int(pictures)), length)


def _fitting_rows(model: TextToImage, latents: torch.Tensor, memory: Memory, may_checkpoint: bool) -> int:
    """Return how many rows fit, with a checkpointed U-Net where not one does without and it may be."""

    def pass_through(count: int) -> None:
        inputs = latents.expand(count, -1, -1, -1)
        embeddings = model.encode([""] * count)
        leaf = Conditioning(
            embeddings.conditional.detach().requires_grad_(), embeddings.unconditional.detach()
        )
        prediction = model.predict_noise(inputs, torch.tensor(1), leaf, model.defaults.guidance)
        prediction.backward(torch.zeros_like(prediction))

    rows = fitting(pass_through, MOST, memory)
    if not rows and may_checkpoint:
        checkpoint(model, True)
        rows = fitting(pass_through, MOST, memory)
    return rows


def checkpoint(model: TextToImage, wanted: bool) -> None:
    """Let the U-Net keep the inputs of its blocks alone, or all that its way back needs."""
    unet = model.pipeline.unet
    (unet.enable_gradient_checkpointing if wanted else unet.disable_gradient_checkpointing)()
