"""Gradients of direct finetuning without an S-step graph: memory does not grow with the number of steps.

The sampler is run once without gradients and its latents kept; each noise prediction is then made again.
"""

from __future__ import annotations

import torch

from fairbench.models.hooks import Conditioning
from fairbench.models.text_to_image import TextToImage, Trajectory

PIXELS_PER_CHUNK = 6144
"""Latent pixels that enter the U-Net at once: 96 rows of 8 x 8, or 4 of 64 x 64."""


def adjusted_gradient(
    model: TextToImage,
    trajectory: Trajectory,
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
    trajectory : Trajectory
        A finished rollout of S steps and N images, its latents kept.
    conditioning : Conditioning, N rows
        With the graph of whatever is trained; the final backward pass uses it up.
    cotangent : Tensor, N x C x h x w
        g, the gradient of the loss with respect to the final latents.
    weights : Tensor, shape (S,)
        See `step_weights`; zero leaves a step out, see `subsample`.
    guidance : float
        Classifier-free guidance; both branches receive their gradient.
    chunk : int, optional
        Rows per U-Net pass.

    Notes
    -----
    Source: arXiv 2311.07604, adjusted direct finetuning; the sum is rearranged here, not changed.
    """
    latents, leaf = _kept(trajectory), _leaf(conditioning)
    weights = weights.to(cotangent)
    every = torch.arange(len(cotangent), device=cotangent.device)
    rows = torch.cartesian_prod(weights.nonzero().flatten(), every)
    for part in rows.split(chunk or _chunk_rows(cotangent)):
        steps, images = part.T
        prediction = model.predict_noise(
            torch.stack([latents[step][image] for step, image in part.tolist()]),
            trajectory.timesteps.to(steps.device)[steps],
            Conditioning(leaf.conditional[images], leaf.unconditional[images]),
            guidance,
            scale=trajectory.scales.to(steps.device)[steps],
        )
        prediction.backward(weights[steps].reshape(-1, 1, 1, 1) * cotangent[images])
    _into_text_encoder(conditioning, leaf)


def exact_gradient(
    model: TextToImage,
    trajectory: Trajectory,
    conditioning: Conditioning,
    cotangent: torch.Tensor,
    gains: torch.Tensor,
    *,
    guidance: float,
) -> None:
    r"""Accumulate the exact gradient of the whole chain (naive direct finetuning), step by step from the end.

    .. math:: e_i = G_{S-1,i}\,g
              + \sum_{k>i} G_{k-1,i} \left(\frac{\partial\epsilon_k}{\partial z_k}\right)^{\!T} e_k,
              \qquad
              \frac{dL}{d\theta} = \sum_i \left(\frac{\partial\epsilon_i}{\partial\theta}\right)^{\!T} e_i

    ``gains`` is the S x S matrix :math:`G` of `path_gains`; all else is as in `adjusted_gradient`.
    """
    latents, leaf = _kept(trajectory), _leaf(conditioning)
    gains = gains.to(cotangent)
    through_later: dict[int, torch.Tensor] = {}
    for step in reversed(range(len(latents))):
        arriving = gains[-1, step] * cotangent
        for later, gradient in through_later.items():
            arriving = arriving + gains[later - 1, step] * gradient
        entering = latents[step].clone().requires_grad_()
        prediction = model.predict_noise(
            entering, trajectory.timesteps[step], leaf, guidance, scale=trajectory.scales[step]
        )
        prediction.backward(arriving)
        assert entering.grad is not None  # noqa: S101 for the type checker: a leaf that was used
        through_later[step] = entering.grad
    _into_text_encoder(conditioning, leaf)


def subsample(weights: torch.Tensor, count: int, generator: torch.Generator) -> torch.Tensor:
    r"""Keep a stratified random ``count`` of the S step weights, scaled so that their mean is the full sum.

    One point falls uniformly into each of ``count`` equal stretches of [0, S); a step is used as often as
    it was hit, with weight :math:`S/K`. ``count`` = S leaves the weights as they are.
    """
    total = len(weights)
    within = torch.rand(count, dtype=torch.float64, generator=generator)
    steps = (
        ((torch.arange(count) + within) * total / count).long().clamp(max=total - 1)
    )  # rounding may reach S itself
    return weights * torch.bincount(steps, minlength=total).to(weights) * (total / count)


def _kept(trajectory: Trajectory) -> tuple[torch.Tensor, ...]:
    if trajectory.latents is None:
        raise ValueError("the rollout must keep its latents: rollout(..., keep=True)")
    return trajectory.latents


def _leaf(conditioning: Conditioning) -> Conditioning:
    """Cut the conditioning from its graph, ready to gather gradients."""
    return Conditioning(
        conditioning.conditional.detach().clone().requires_grad_(),
        conditioning.unconditional.detach().clone().requires_grad_(),
    )


def _into_text_encoder(conditioning: Conditioning, leaf: Conditioning) -> None:
    """Send the gathered gradients of the prompt embeddings on to what made the embeddings, in one pass."""
    made = (conditioning.conditional, conditioning.unconditional)
    gathered = (leaf.conditional.grad, leaf.unconditional.grad)
    used = [
        (tensor, gradient)
        for tensor, gradient in zip(made, gathered, strict=True)
        if tensor.requires_grad and gradient is not None
    ]
    if used:
        tensors, gradients = zip(*used, strict=True)
        torch.autograd.backward(tensors, gradients)


def _chunk_rows(latents: torch.Tensor) -> int:
    return max(4, PIXELS_PER_CHUNK // (latents.shape[-1] * latents.shape[-2]))
