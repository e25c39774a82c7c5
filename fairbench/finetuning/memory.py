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
    """

    rows: int
    graphs: int
    pictures: int

    def halve(self) -> bool:
        """Take half of everything; false where there is nothing left to halve."""
        if max(self.rows, self.pictures) == 1 and not self.graphs:
            return False
        self.rows, self.pictures = max(1, self.rows // 2), max(1, self.pictures // 2)
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

    def unet_rows(count: int) -> None:
        inputs = latents.expand(count, -1, -1, -1)
        embeddings = model.encode([""] * count)
        leaf = Conditioning(
            embeddings.conditional.detach().requires_grad_(), embeddings.unconditional.detach()
        )
        prediction = model.predict_noise(inputs, torch.tensor(1), leaf, model.defaults.guidance)
        prediction.backward(torch.zeros_like(prediction))

    def decoded(count: int) -> None:
        learn(latents.repeat(count, 1, 1, 1).requires_grad_()).backward()

    _checkpoint(model, checkpointing is True)
    graphs = rows
    if rows == "auto":
        if memory is None:
            rows, graphs = chunk_rows(latents), GRAPH_PIXELS // area
        else:
            with uncounted(model):
                rows = fitting(unet_rows, MOST, memory)
                if not rows and checkpointing == "auto":
                    _checkpoint(model, True)
                    rows = fitting(unet_rows, MOST, memory)
            if not rows:
                raise too_large(latents.device, "finetuned on")
            graphs = rows // GRAPH_SHARE
    if pictures == "auto":
        pictures = decoded_on_cpu(model, area) if memory is None else fitting(decoded, length, memory)
        if not pictures:
            raise too_large(latents.device, "finetuned on")
    return GradientPortions(int(rows), int(graphs), min(length, int(pictures)))


def _checkpoint(model: TextToImage, wanted: bool) -> None:
    unet = model.pipeline.unet
    (unet.enable_gradient_checkpointing if wanted else unet.disable_gradient_checkpointing)()
