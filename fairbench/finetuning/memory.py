"""How much fits into one pass: tried out on a GPU, a matter of cache on a CPU."""

from __future__ import annotations

from collections.abc import Callable

import torch

from fairbench.finetuning.gradient import chunk_rows
from fairbench.models.hooks import Conditioning
from fairbench.models.text_to_image import TextToImage

SHARE = 0.8
"""Of the free memory that may be used: the allocator needs room, and others may come."""
GRAPH_PIXELS = 12288
"""Latent pixels that keep their graph while sampling on a CPU: 192 rows of 8 x 8, 3 of 64 x 64."""
GRAPH_SHARE = 8
"""One in so many of the rows that fit on a GPU keep their graph while sampling: the loss needs room too."""
PICTURE_PIXELS = 2**20
"""Pixels decoded at once on a CPU: 256 pictures of 64 x 64, or 4 of 512 x 512."""


def portions(
    model: TextToImage,
    length: int,
    learn: Callable[[torch.Tensor], torch.Tensor],
    rows: int | str,
    pictures: int | str,
) -> tuple[int, int, int]:
    """Return how many rows have a gradient in one pass, how many keep their graph, and pictures at once.

    Parameters
    ----------
    model : TextToImage
    length : int
        Images of one update; there is no use for more pictures at once.
    learn : callable
        From latents N x C x h x w to a scalar, through decoder, judge and feature networks.
    rows, pictures
        Numbers are taken as they are, ``"auto"`` is found out.
    """
    latents = model.noise([0])
    area = latents.shape[-2] * latents.shape[-1]
    on_gpu = latents.device.type == "cuda"

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

    graphs = rows
    if rows == "auto":
        rows = _measured(unet_rows) if on_gpu else chunk_rows(latents)
        graphs = rows // GRAPH_SHARE if on_gpu else GRAPH_PIXELS // area
    if pictures == "auto":
        pixels = area * 64  # the decoder makes 8 x 8 of every latent pixel
        pictures = _measured(decoded) if on_gpu else max(1, PICTURE_PIXELS // pixels)
    return int(rows), int(graphs), min(length, int(pictures))


def largest(use: Callable[[int], int], free: int) -> int:
    r"""Return the largest count n with :math:`use(n) \le free`, if use grows evenly; at least 1.

    Parameters
    ----------
    use : callable
        Bytes that a pass over n rows needs; asked for n = 2 and 4 only.
    free : int
        Bytes.
    """
    two, four = use(2), use(4)
    each = max(1, (four - two) // 2)
    return max(1, (free - (two - 2 * each)) // each)


def _measured(run: Callable[[int], None]) -> int:
    """Return how often ``run`` fits into what the GPU has free."""

    def use(count: int) -> int:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run(count)
        return torch.cuda.max_memory_allocated() - before

    use(1)  # workspaces that are made once are not to be counted for every row
    torch.cuda.empty_cache()
    return largest(use, int(SHARE * torch.cuda.mem_get_info()[0]))
