"""What each denoising step of each image adds to the gradient of the prompt embedding, exact and adjusted.

One backward sweep over a kept rollout; nothing is sampled again and no graph of more than one step is held.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from fairbench.models.hooks import Conditioning

if TYPE_CHECKING:
    from fairbench.models.text_to_image import TextToImage, Trajectory

PIXELS_PER_CHUNK = 6144
"""Latent pixels that enter the U-Net at once: 96 images of 8 x 8, or 1 of 64 x 64."""


def step_contributions(
    model: TextToImage,
    trajectory: Trajectory,
    conditioning: Conditioning,
    cotangent: torch.Tensor,
    gains: torch.Tensor,
    *,
    guidance: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    r"""Return the terms of the exact gradient, and those that the adjusted one puts its weights on.

    .. math:: \left(\frac{\partial\epsilon_i}{\partial c}\right)^{\!T} e_i, \qquad
              \left(\frac{\partial\epsilon_i}{\partial c}\right)^{\!T} g, \qquad
              e_i = G_{S-1,i}\,g
              + \sum_{k>i} G_{k-1,i} \left(\frac{\partial\epsilon_k}{\partial z_k}\right)^{\!T} e_k

    with :math:`c` the conditional prompt embedding. The sum of the first over the steps is the naive
    gradient; the sum of :math:`w_i` times the second is the adjusted one with weights :math:`w`.

    Parameters
    ----------
    model : TextToImage
    trajectory : Trajectory
        A finished rollout of S steps and N images, its latents kept.
    conditioning : Conditioning, N rows of L x D
    cotangent : Tensor, N x C x h x w
        g, the gradient of the loss with respect to the final latents.
    gains : Tensor, S x S
        :math:`G` of `fairbench.finetuning.gains.path_gains`.
    guidance : float
        Scale of classifier-free guidance.

    Returns
    -------
    exact, direct : Tensor, S x N x L x D
        On the CPU.
    """
    if trajectory.latents is None:
        raise ValueError("the rollout must keep its latents: rollout(..., keep=True)")
    rows = torch.arange(len(cotangent), device=cotangent.device)
    size = max(1, PIXELS_PER_CHUNK // (cotangent.shape[-1] * cotangent.shape[-2]))
    parts = [
        _sweep(model, trajectory, _rows(conditioning, part), cotangent[part], gains, part, guidance)
        for part in rows.split(size)
    ]
    exact, direct = zip(*parts, strict=True)
    return torch.cat(exact, dim=1), torch.cat(direct, dim=1)


def _sweep(
    model: TextToImage,
    trajectory: Trajectory,
    conditioning: Conditioning,
    cotangent: torch.Tensor,
    gains: torch.Tensor,
    rows: torch.Tensor,
    guidance: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Go from the last step to the first: an exact term needs what arrives through all later steps."""
    gains, latents = gains.to(cotangent), trajectory.latents or ()
    through_later: dict[int, torch.Tensor] = {}
    exact, direct = [], []
    for step in reversed(range(len(latents))):
        arriving = gains[-1, step] * cotangent
        for later, gradient in through_later.items():
            arriving = arriving + gains[later - 1, step] * gradient
        entering = latents[step][rows].clone().requires_grad_()
        embedding = conditioning.conditional.clone().requires_grad_()
        prediction = model.predict_noise(
            entering,
            trajectory.timesteps[step],
            Conditioning(embedding, conditioning.unconditional),
            guidance,
            scale=trajectory.scales[step],
        )
        (alone,) = torch.autograd.grad(prediction, embedding, cotangent, retain_graph=True)
        through_later[step], whole = torch.autograd.grad(prediction, (entering, embedding), arriving)
        exact.append(whole.cpu())
        direct.append(alone.cpu())
    return torch.stack(exact[::-1]), torch.stack(direct[::-1])


def _rows(conditioning: Conditioning, rows: torch.Tensor) -> Conditioning:
    return Conditioning(conditioning.conditional[rows].detach(), conditioning.unconditional[rows].detach())
