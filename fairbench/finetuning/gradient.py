"""Gradients of direct finetuning without an S-step graph: memory does not grow with the number of steps.

The sampler is run once without gradients and its latents kept; each noise prediction is then made again.
"""

from __future__ import annotations

import torch

from fairbench.finetuning.rules import GradientRule
from fairbench.models.hooks import Conditioning
from fairbench.models.text_to_image import TextToImage, Trajectory

PIXELS_PER_CHUNK = 3072
"""Latent pixels that enter the U-Net at once: 48 rows of 8 x 8; twice as many take a fifth longer per row."""


def rule_gradient(
    rule: GradientRule,
    model: TextToImage,
    trajectory: Trajectory,
    conditioning: Conditioning,
    cotangent: torch.Tensor,
    gains: torch.Tensor,
    *,
    guidance: float,
    chunk: int | None = None,
) -> torch.Tensor:
    """Accumulate the gradient that ``rule`` describes, by the cheapest way that is right for it.

    Without attached inputs that is `adjusted_gradient`, else `exact_gradient`; both return the same.
    """
    sampled = (model, trajectory, conditioning, cotangent)
    if not rule.attached.any():
        return adjusted_gradient(*sampled, rule.weights, guidance=guidance, chunk=chunk)
    return exact_gradient(*sampled, gains, rule.weights, rule.attached, guidance=guidance, chunk=chunk)


def kept_steps(rule: GradientRule, images: int, room: int) -> list[int]:
    """Return the steps that keep their graph while sampling: those that learn, if ``room`` rows hold them.

    A graph that is kept need not be made again. It must not span two steps, nor be of fresh noisings.
    """
    if rule.attached.any() or rule.noisings:
        return []
    return [int(step) for step in rule.weights.nonzero().flatten()[: room // images]]


def adjusted_gradient(
    model: TextToImage,
    trajectory: Trajectory,
    conditioning: Conditioning,
    cotangent: torch.Tensor,
    weights: torch.Tensor,
    *,
    guidance: float,
    chunk: int | None = None,
) -> torch.Tensor:
    r"""Accumulate the adjusted gradient into everything that the conditioning and the U-Net were made from.

    .. math:: \frac{dL}{d\theta} = \sum_i w_i \left(\frac{\partial\epsilon_i}{\partial\theta}\right)^{\!T} g,
              \qquad g = \frac{dL}{dz_0}

    The terms share nothing, so any chunk of (step, image) rows can be taken at a time; steps whose graph was
    kept while sampling are not predicted again. The gradient of the prompt embeddings is gathered first and
    goes through the text encoder once. Arrives in ``.grad``.

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

    Returns
    -------
    Tensor, shape (S,)
        Root of the sum of squares of what each step adds to the gradients of the N prompt embeddings.

    Notes
    -----
    Source: arXiv 2311.07604, adjusted direct finetuning; the sum is rearranged here, not changed.
    """
    latents, leaf = _kept(trajectory), conditioning.leaf()
    weights = weights.to(cotangent)
    squares = torch.zeros_like(weights)
    for step, (prediction, embeddings) in trajectory.graphs.items():
        prediction.backward(weights[step] * cotangent)
        squares[step] = _squares(embeddings).sum()
        _add(leaf, embeddings)
    again = [step for step in weights.nonzero().flatten().tolist() if step not in trajectory.graphs]
    every = torch.arange(len(cotangent), device=cotangent.device)
    rows = torch.cartesian_prod(torch.tensor(again, dtype=torch.long, device=every.device), every)
    entering = torch.stack(latents) if again else torch.empty(0)
    timesteps, scales = trajectory.timesteps.to(every.device), trajectory.scales.to(every.device)
    for part in rows.split(chunk or chunk_rows(cotangent)) if again else ():
        steps, images = part.T
        embeddings = _rows(leaf, images)
        prediction = model.predict_noise(
            entering[steps, images], timesteps[steps], embeddings, guidance, scale=scales[steps]
        )
        prediction.backward(weights[steps].reshape(-1, 1, 1, 1) * cotangent[images])
        squares.index_add_(0, steps, _squares(embeddings))
    _into_text_encoder(conditioning, leaf)
    return squares.sqrt()


def exact_gradient(
    model: TextToImage,
    trajectory: Trajectory,
    conditioning: Conditioning,
    cotangent: torch.Tensor,
    gains: torch.Tensor,
    weights: torch.Tensor | None = None,
    attached: torch.Tensor | None = None,
    *,
    guidance: float,
    chunk: int | None = None,
) -> torch.Tensor:
    r"""Accumulate the gradient of the connected chain, step by step from the end, one step's graph at a time.

    .. math:: e_i = w_i\,g + \sum_{k>i,\ k\,attached} G_{k-1,i}
                    \left(\frac{\partial\epsilon_k}{\partial z_k}\right)^{\!T} e_k,
              \qquad
              \frac{dL}{d\theta} = \sum_i \left(\frac{\partial\epsilon_i}{\partial\theta}\right)^{\!T} e_i

    ``gains`` is the S x S matrix :math:`G` of `path_gains`; all else is as in `adjusted_gradient`.

    Parameters
    ----------
    weights : Tensor, shape (S,), optional
        :math:`w_i`; the gains on :math:`z_0` if None.
    attached : Tensor of bool, shape (S,), optional
        The steps whose input is not detached; all if None, which is naive direct finetuning. A step that is
        neither attached nor has a weight is left out.
    """
    latents, leaf = _kept(trajectory), conditioning.leaf()
    gains = gains.to(cotangent)
    weights = gains[-1] if weights is None else weights.to(cotangent)
    # on the CPU: what is asked at every step must not wait for the card
    attached = torch.ones(len(weights), dtype=torch.bool) if attached is None else attached.cpu()
    chosen = ((weights != 0).cpu() | attached).nonzero().flatten().tolist()
    squares = torch.zeros_like(weights)
    for images in torch.arange(len(cotangent), device=cotangent.device).split(chunk or len(cotangent)):
        through_later: dict[int, torch.Tensor] = {}
        for step in reversed(chosen):
            arriving = weights[step] * cotangent[images]
            for later, gradient in through_later.items():
                arriving = arriving + gains[later - 1, step] * gradient
            entering = latents[step][images].clone().requires_grad_(bool(attached[step]))
            embeddings = _rows(leaf, images)
            prediction = model.predict_noise(
                entering, trajectory.timesteps[step], embeddings, guidance, scale=trajectory.scales[step]
            )
            prediction.backward(arriving)
            squares[step] += _squares(embeddings).sum()
            if entering.grad is not None:
                through_later[step] = entering.grad
    _into_text_encoder(conditioning, leaf)
    return squares.sqrt()


def chunk_rows(latents: torch.Tensor) -> int:
    """Return how many rows enter the U-Net at once where nobody says: as many as keep a CPU's cache busy."""
    return max(4, PIXELS_PER_CHUNK // (latents.shape[-1] * latents.shape[-2]))


def _kept(trajectory: Trajectory) -> tuple[torch.Tensor, ...]:
    if trajectory.latents is None:
        raise ValueError("the rollout must keep its latents: rollout(..., keep=True)")
    return trajectory.latents


def _rows(leaf: Conditioning, images: torch.Tensor) -> Conditioning:
    """Return the embeddings of some rows, whose own gradient can be looked at afterwards."""
    rows = Conditioning(leaf.conditional[images], leaf.unconditional[images])
    rows.conditional.retain_grad()
    return rows


def _squares(rows: Conditioning) -> torch.Tensor:
    gradient = rows.conditional.grad
    assert gradient is not None  # noqa: S101 the conditional branch is always used
    return gradient.float().pow(2).sum((1, 2))


def _add(leaf: Conditioning, other: Conditioning) -> None:
    """Add the gradients of one leaf to those of another."""
    for ours, theirs in ((leaf.conditional, other.conditional), (leaf.unconditional, other.unconditional)):
        if theirs.grad is not None:
            ours.grad = theirs.grad if ours.grad is None else ours.grad + theirs.grad


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
