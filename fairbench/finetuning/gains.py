"""How strongly each noise prediction moves the final latent, for any diffusers scheduler.

A sampler is an affine map of its noise predictions; unit impulses read its coefficients off.
"""

from __future__ import annotations

from typing import Any, get_args

import torch

from fairbench.errors import UserError, unknown
from fairbench.finetuning.settings import Mode
from fairbench.models.samplers import ANOTHER, NoSamplerNoise, sampler, unclipped


def direct_path_gains(scheduler: Any, num_inference_steps: int) -> tuple[torch.Tensor, torch.Tensor]:
    r"""Return the timesteps and how much the noise prediction at each of them moves the final latent.

    .. math:: z_0 = b\,z_T + \sum_i a_i\,\epsilon_i + \text{(sampler noise)}

    Parameters
    ----------
    scheduler : diffusers scheduler
        Only its configuration is used; the scheduler itself is left alone.
    num_inference_steps : int
        What is given to ``set_timesteps``.

    Returns
    -------
    timesteps : Tensor, shape (S,)
        ``scheduler.timesteps``; S differs from ``num_inference_steps`` for samplers of higher order.
    gains : Tensor, shape (S,), float64
        :math:`a_i = \partial z_0 / \partial \epsilon_i` with all other predictions held fixed.

    Raises
    ------
    UserError
        If the scheduler does not predict noise, cannot take so many steps, or divides by zero in one of them.

    Examples
    --------
    One step of DDIM divides by :math:`\sqrt{\bar\alpha}` what is left of the latent without the noise, so
    :math:`a = -\sqrt{1 - \bar\alpha} / \sqrt{\bar\alpha}`:

    >>> from diffusers import DDIMScheduler
    >>> half_noise = DDIMScheduler(num_train_timesteps=1, trained_betas=[0.5])
    >>> timesteps, gains = direct_path_gains(half_noise, 1)
    >>> timesteps.tolist(), gains.round(decimals=3).tolist()
    ([0], [-1.0])
    """
    timesteps, gains = path_gains(scheduler, num_inference_steps)
    return timesteps, gains[-1]


def path_gains(scheduler: Any, num_inference_steps: int) -> tuple[torch.Tensor, torch.Tensor]:
    r"""Return the timesteps and the gains of every noise prediction on the latent after every step.

    Entry (j, i) of the second tensor, S x S in float64, is :math:`\partial z^{(j+1)} / \partial \epsilon_i`
    along the sampler alone; it is zero for :math:`i > j` and its last row is `direct_path_gains`.

    Raises like `direct_path_gains`.

    Examples
    --------
    One step as in `direct_path_gains`, :math:`a = -\sqrt{0.8} / \sqrt{0.2}`:

    >>> from diffusers import DDIMScheduler
    >>> timesteps, gains = path_gains(DDIMScheduler(num_train_timesteps=1, trained_betas=[0.8]), 1)
    >>> gains.round(decimals=3).tolist()
    [[-2.0]]
    """
    timesteps, gains, _ = probed(scheduler, num_inference_steps)
    return timesteps, gains


def probed(scheduler: Any, num_inference_steps: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return what `path_gains` does, and by what each step multiplies its latents for the U-Net, shape (S,).

    The scheduler is run once from :math:`z_T = 0` on a batch of S rows; row i sees a unit noise
    prediction at step i and zero elsewhere. Clipping and thresholding of the predicted image are
    switched off: the gains are those of the affine part.

    Examples
    --------
    One step as in `path_gains`; DDIM hands its latents to the U-Net as they are:

    >>> from diffusers import DDIMScheduler
    >>> timesteps, gains, scales = probed(DDIMScheduler(num_train_timesteps=1, trained_betas=[0.8]), 1)
    >>> gains.round(decimals=3).tolist(), scales.tolist()
    ([[-2.0]], [1.0])
    """
    predicts = scheduler.config.get("prediction_type", "something else")
    if predicts != "epsilon":
        raise UserError(
            f"direct finetuning needs a model that predicts noise (prediction_type epsilon); "
            f"{type(scheduler).__name__} is set to {predicts}"
        )
    probe = sampler(unclipped(scheduler), num_inference_steps)
    count = len(probe.timesteps)
    impulses = torch.eye(count, dtype=torch.float64).reshape(count, count, 1, 1, 1)
    latents, one = torch.zeros_like(impulses[0]), torch.ones((), dtype=torch.float64)
    after, scales = [], []
    with torch.no_grad(), NoSamplerNoise():
        for impulse, timestep in zip(impulses, probe.timesteps, strict=True):
            scales.append(torch.as_tensor(probe.scale_model_input(one, timestep)))
            latents = probe.step(impulse, timestep, latents, return_dict=False)[0]
            after.append(latents.flatten().double())
    gains = torch.stack(after)
    if not gains.isfinite().all():
        raise UserError(
            f"{type(probe).__name__} divides by zero within {num_inference_steps} steps: {ANOTHER}"
        )
    return probe.timesteps.clone(), gains, torch.stack(scales).double()


def step_weights(timesteps: torch.Tensor, gains: torch.Tensor, mode: str, scheduler: Any) -> torch.Tensor:
    r"""Return the weight of every step in the adjusted gradient :math:`\sum_i w_i (d\epsilon_i/d\theta)^T g`.

    - ``raw``: :math:`w_i = a_i`, the sampler's own gains;
    - ``standardised``: :math:`w_i = -(\prod_j |a_j|)^{1/S}`, the same for all S steps (none dominates);
      steps that some samplers have and that do not move the image, :math:`a_i = 0`, stay out of it;
    - ``official``: :math:`w_i = a_i c_i / (\prod_j c_j)^{1/S}` with
      :math:`c_i = \sqrt{\bar\alpha_i}\sqrt{1-\bar\alpha_i}/(1-\alpha_i)` on the training schedule, what the
      authors' code does (arXiv 2311.07604): flat for DDPM, uneven for other samplers.

    Shapes: all (S,), float64.

    Raises
    ------
    UserError
        If ``official`` asks for what the scheduler does not have.

    Examples
    --------
    >>> timesteps, gains = torch.tensor([1, 0]), torch.tensor([-1.0, -4.0], dtype=torch.float64)
    >>> step_weights(timesteps, gains, "standardised", scheduler=None).round(decimals=3).tolist()
    [-2.0, -2.0]
    """
    if mode == "raw":
        return gains
    if mode == "standardised":
        moves = gains != 0
        return -_geometric_mean(gains[moves].abs()) * moves
    if mode == "official":
        cumulative = signal_left(scheduler, timesteps)
        added = scheduler.betas.double().cpu()[timesteps.round().long().cpu()]
        correction = (cumulative * (1 - cumulative)).sqrt() / added
        return gains * correction / _geometric_mean(correction)
    raise unknown("gradient mode", mode, get_args(Mode))


def signal_left(scheduler: Any, timesteps: torch.Tensor) -> torch.Tensor:
    r"""Return :math:`\bar\alpha` of the training schedule at some timesteps, float64.

    Raises
    ------
    UserError
        If the scheduler has no such schedule.

    Examples
    --------
    >>> from diffusers import DDIMScheduler
    >>> scheduler = DDIMScheduler(trained_betas=[0.5, 0.5])
    >>> signal_left(scheduler, torch.tensor([0, 1])).tolist()
    [0.5, 0.25]
    """
    if not hasattr(scheduler, "alphas_cumprod"):
        raise UserError(f"{type(scheduler).__name__} has no training schedule of alphas: {ANOTHER}")
    return scheduler.alphas_cumprod.double().cpu()[timesteps.round().long().cpu()]


def _geometric_mean(values: torch.Tensor) -> torch.Tensor:
    return values.log().mean().exp()
