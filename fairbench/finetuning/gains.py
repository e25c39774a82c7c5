"""How strongly each noise prediction moves the final latent, for any diffusers scheduler.

A sampler is an affine map of its noise predictions; unit impulses read its coefficients off.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import torch
from torch.overrides import TorchFunctionMode

from fairbench.errors import UserError, unknown
from fairbench.finetuning.settings import Mode


class _NoSamplerNoise(TorchFunctionMode):
    """Turn every Gaussian draw into zeros, so that a stochastic sampler shows its deterministic part."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        return torch.zeros_like(result) if func in (torch.randn, torch.randn_like) else result


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
        If the scheduler does not predict noise, or the number of steps is not positive.

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
    if num_inference_steps < 1:
        raise UserError(f"the number of denoising steps must be at least 1, not {num_inference_steps}")
    if num_inference_steps > (most := scheduler.config.num_train_timesteps):
        raise UserError(f"the number of denoising steps must be at most {most}, not {num_inference_steps}")
    predicts = scheduler.config.get("prediction_type", "something else")
    if predicts != "epsilon":
        raise UserError(
            f"direct finetuning needs a model that predicts noise (prediction_type epsilon); "
            f"{type(scheduler).__name__} is set to {predicts}"
        )
    nonlinear = {key: False for key in ("clip_sample", "thresholding") if key in scheduler.config}
    probe = type(scheduler).from_config(scheduler.config, **nonlinear)
    probe.set_timesteps(num_inference_steps)
    count = len(probe.timesteps)
    impulses = torch.eye(count, dtype=torch.float64).reshape(count, count, 1, 1, 1)
    latents, one = torch.zeros_like(impulses[0]), torch.ones((), dtype=torch.float64)
    after, scales = [], []
    with torch.no_grad(), _NoSamplerNoise():
        for impulse, timestep in zip(impulses, probe.timesteps, strict=True):
            scales.append(torch.as_tensor(probe.scale_model_input(one, timestep)))
            latents = probe.step(impulse, timestep, latents, return_dict=False)[0]
            after.append(latents.flatten().double())
    return probe.timesteps.clone(), torch.stack(after), torch.stack(scales).double()


def step_weights(timesteps: torch.Tensor, gains: torch.Tensor, mode: str, scheduler: Any) -> torch.Tensor:
    r"""Return the weight of every step in the adjusted gradient :math:`\sum_i w_i (d\epsilon_i/d\theta)^T g`.

    - ``raw``: :math:`w_i = a_i`, the sampler's own gains;
    - ``standardised``: :math:`w_i = -(\prod_j |a_j|)^{1/S}`, the same for every step (no step dominates);
    - ``official``: :math:`w_i = a_i c_i / (\prod_j c_j)^{1/S}` with
      :math:`c_i = \sqrt{\bar\alpha_i}\sqrt{1-\bar\alpha_i}/(1-\alpha_i)` on the training schedule, what the
      authors' code does (arXiv 2311.07604): flat for DDPM, uneven for other samplers.

    Shapes: all (S,), float64.

    Examples
    --------
    >>> timesteps, gains = torch.tensor([1, 0]), torch.tensor([-1.0, -4.0], dtype=torch.float64)
    >>> step_weights(timesteps, gains, "standardised", scheduler=None).round(decimals=3).tolist()
    [-2.0, -2.0]
    """
    if mode == "raw":
        return gains
    if mode == "standardised":
        return -_geometric_mean(gains[gains != 0].abs()).expand_as(gains)
    if mode == "official":
        index = timesteps.round().long().cpu()
        cumulative = scheduler.alphas_cumprod.double().cpu()[index]
        correction = (cumulative * (1 - cumulative)).sqrt() / scheduler.betas.double().cpu()[index]
        return gains * correction / _geometric_mean(correction)
    raise unknown("gradient mode", mode, get_args(Mode))


def _geometric_mean(values: torch.Tensor) -> torch.Tensor:
    return values.log().mean().exp()
