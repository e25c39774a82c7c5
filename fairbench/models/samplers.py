"""A scheduler of diffusers as a sampler of latents: never clipping, and tried out before it is used.

Whether one of its many kinds works for a model is found out here, so that nobody else has to know them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from fairbench.errors import UserError, one_line

CLIPPING = ("clip_sample", "clip_denoised", "thresholding")
"""What schedulers call it to hold what is predicted within the range of pixels, which latents exceed."""
ANOTHER = "choose another one, such as --model '...[scheduler=ddim]', or set it otherwise"


class NoSamplerNoise(TorchFunctionMode):
    """Turn every Gaussian draw into zeros, so that a stochastic sampler shows its deterministic part."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in (torch.randn, torch.randn_like):
            kwargs = {key: value for key, value in kwargs.items() if key != "generator"}
            func = torch.zeros if func is torch.randn else torch.zeros_like
        return func(*args, **kwargs)


def clipping(scheduler: Any) -> list[str]:
    """Return the settings by which ``scheduler`` clips what it predicts."""
    return [key for key in CLIPPING if scheduler.config.get(key)]


def unclipped(scheduler: Any) -> Any:
    """Return ``scheduler``, or one like it that clips nothing."""
    found = dict.fromkeys(clipping(scheduler), False)
    return type(scheduler).from_config(scheduler.config, **found) if found else scheduler


def sampler(template: Any, steps: int) -> Any:
    """Return a fresh scheduler like ``template``, set to so many steps: multistep ones remember.

    Raises
    ------
    UserError
        It cannot take so many steps, or what it makes of a prediction is not a number.
    """
    kind: Any = type(template)
    most = template.config.get("num_train_timesteps")
    if most is None:
        raise UserError(f"{kind.__name__} has no training timesteps, so no latents: {ANOTHER}")
    if not 1 <= steps <= most:
        raise UserError(f"the number of denoising steps must be from 1 to {most}, not {steps}")
    _try_out(kind, template.to_json_string(), steps)
    return _fresh(kind, template.config, steps)


def _fresh(kind: Any, config: Any, steps: int) -> Any:
    scheduler = kind.from_config(config)
    scheduler.set_timesteps(steps)  # on the CPU: a sampler looks them up, and must not wait for the card
    return scheduler


@cache  # it takes as long as a step of a small model
def _try_out(kind: Any, config: str, steps: int) -> None:
    """Raise a ``UserError`` where a scheduler of this kind and configuration does not work."""
    name = kind.__name__
    try:
        scheduler = _fresh(kind, json.loads(config), steps)
        finite = _reached(scheduler).isfinite()
    except Exception as error:  # whatever a scheduler raises that was made for other models
        why = one_line(error, named=True)
        raise UserError(f"{name} cannot take {steps} steps here ({why}): {ANOTHER}") from error
    if _begins_blind(scheduler):
        raise UserError(
            f"{name} with rescale_betas_zero_snr begins where all is noise, and there a model that predicts "
            "noise (prediction_type epsilon) says nothing of the picture: set prediction_type to "
            "v_prediction if it was trained so, or else timestep_spacing to leading"
        )
    if not finite:
        raise UserError(f"{name} divides by zero within {steps} steps: {ANOTHER}")


@torch.no_grad()
def _reached(scheduler: Any) -> torch.Tensor:
    """Return where a latent pixel ends if every prediction is 1; uses the scheduler up."""
    prediction = torch.ones(1, 1, 1, 1)
    latents = prediction * scheduler.init_noise_sigma
    with NoSamplerNoise():
        for timestep in scheduler.timesteps:
            scheduler.scale_model_input(latents, timestep)
            latents = scheduler.step(prediction, timestep, latents, return_dict=False)[0]
    return latents


def _begins_blind(scheduler: Any) -> bool:
    """Tell whether the model is asked what the noise is where there is nothing else."""
    config = scheduler.config
    blind = config.get("rescale_betas_zero_snr") and config.get("prediction_type") == "epsilon"
    return bool(blind and scheduler.timesteps.max() > config.num_train_timesteps - 1.5)
