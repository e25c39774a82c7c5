"""Gradients of direct finetuning without an S-step graph: memory does not grow with the number of steps.

The sampler is run once without gradients and its latents kept; each noise prediction is then made again.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from fairbench.models.text_to_image import Conditioning, TextToImage

PIXELS_PER_CHUNK = 6144  # latent pixels through the U-Net at once: 96 rows of 8 x 8, or the authors' 4 of 64 x 64


def adjusted_gradient(
    model: TextToImage,
    latents: tuple[torch.Tensor, ...],
    timesteps: torch.Tensor,
    conditioning: Conditioning,
    cotangent: torch.Tensor,
    weights: torch.Tensor,
    *,
    guidance: float,
    chunk: int | None = None,
) -> None:
    r"""Accumulate the adjusted gradient into everything that the conditioning and the U-Net were made from.

    .. math:: \frac{dL}{d\theta} = \sum_i w_i \left(\frac{\partial\epsilon_i}{\partial\theta}\right)^{\!T} g,
              \qquad g = \frac{dL}{dz_0}

    The terms share nothing, so any chunk of (step, image) rows can be taken at a time. The gradient of the
    prompt embeddings is gathered first and goes through the text encoder once. Arrives in ``.grad``.

    Parameters
    ----------
    model : TextToImage
    latents : tuple of S tensors, N x C x h x w
        The latents before every step of a finished rollout.
    timesteps : Tensor, shape (S,)
    conditioning : Conditioning, N rows
        With the graph of whatever is trained; consumed by the final backward pass.
    cotangent : Tensor, N x C x h x w
        g, the gradient of the loss with respect to the final latents.
    weights : Tensor, shape (S,)
        Zero leaves a step out, see `subsample`.
    guidance : float
        Classifier-free guidance; both branches receive their gradient.
    chunk : int, optional
        Rows per U-Net pass.

    Notes
    -----
    Source: arXiv 2311.07604, adjusted direct finetuning; the sum is rearranged here, not changed.
    """
    leaf = _leaf(conditioning)
    rows = torch.cartesian_prod(weights.nonzero().flatten().cpu(), torch.arange(len(cotangent)))
    for part in rows.split(chunk or _chunk_rows(cotangent)):
        steps, images = part.T
        prediction = model.predict_noise(
            torch.stack([latents[step][image] for step, image in part.tolist()]),
            timesteps[steps].to(cotangent.device),
            _rows(leaf, images.to(cotangent.device)),
            guidance,
        )
        scale = weights[steps].to(cotangent).reshape(-1, 1, 1, 1)
        prediction.backward((scale * cotangent[images]).to(prediction.dtype))
    _backward_conditioning(conditioning, leaf)


def exact_gradient(
    model: TextToImage,
    latents: tuple[torch.Tensor, ...],
    timesteps: torch.Tensor,
    conditioning: Conditioning,
    cotangent: torch.Tensor,
    gains: torch.Tensor,
    *,
    guidance: float,
) -> None:
    r"""Accumulate the exact gradient of the whole chain (naive direct finetuning), step by step from the end.

    .. math:: e_i = G_{S-1,i}\,g + \sum_{k>i} G_{k-1,i} \left(\frac{\partial\epsilon_k}{\partial z_k}\right)^{\!T}
              e_k, \qquad \frac{dL}{d\theta} = \sum_i \left(\frac{\partial\epsilon_i}{\partial\theta}\right)^{\!T} e_i

    ``gains`` is the matrix :math:`G` of `path_gains`; the other parameters are those of `adjusted_gradient`.
    """
    leaf = _leaf(conditioning)
    gains = gains.to(cotangent)
    through_input: dict[int, torch.Tensor] = {}
    for step in reversed(range(len(latents))):
        arriving = gains[-1, step] * cotangent
        for later, gradient in through_input.items():
            arriving = arriving + gains[later - 1, step] * gradient
        before = latents[step].clone().requires_grad_()
        prediction = model.predict_noise(before, timesteps[step].to(before.device), leaf, guidance)
        prediction.backward(arriving.to(prediction.dtype))
        assert before.grad is not None
        through_input[step] = before.grad
    _backward_conditioning(conditioning, leaf)


def subsample(weights: torch.Tensor, count: int, generator: torch.Generator) -> torch.Tensor:
    r"""Keep a stratified random ``count`` of the S steps, scaled so that the mean is the full sum.

    One point falls uniformly into each of ``count`` equal stretches of [0, S); a step is used as often as
    it was hit, with weight :math:`S/K`. All weights are returned unchanged for ``count`` = S.
    """
    total = len(weights)
    points = torch.arange(count, dtype=torch.float64)
    points = (points + torch.rand(count, dtype=torch.float64, generator=generator)) * total / count
    hits = torch.bincount(points.long().clamp(max=total - 1), minlength=total)
    return weights * hits * (total / count)


def _leaf(conditioning: Conditioning) -> Conditioning:
    """Cut the conditioning from its graph, ready to gather gradients."""
    return replace(
        conditioning,
        conditional=conditioning.conditional.detach().clone().requires_grad_(),
        unconditional=conditioning.unconditional.detach().clone().requires_grad_(),
    )


def _rows(conditioning: Conditioning, index: torch.Tensor) -> Conditioning:
    return replace(
        conditioning,
        conditional=conditioning.conditional[index],
        unconditional=conditioning.unconditional[index],
    )


def _backward_conditioning(conditioning: Conditioning, leaf: Conditioning) -> None:
    """Send the gathered gradients of the prompt embeddings to what made them."""
    pairs = (
        (conditioning.conditional, leaf.conditional.grad),
        (conditioning.unconditional, leaf.unconditional.grad),
    )
    pairs = tuple((made, gradient) for made, gradient in pairs if made.requires_grad and gradient is not None)
    if pairs:
        torch.autograd.backward(*map(list, zip(*pairs, strict=True)))


def _chunk_rows(latents: torch.Tensor) -> int:
    return max(4, PIXELS_PER_CHUNK // (latents.shape[-1] * latents.shape[-2]))
