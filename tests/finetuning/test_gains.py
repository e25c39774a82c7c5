"""Direct-path gains and step weights against autograd through the real schedulers and published numbers."""

import diffusers
import numpy as np
import pytest
import torch
from scipy.stats import gmean

from fairbench.errors import UserError
from fairbench.finetuning.gains import direct_path_gains, step_weights

STABLE_DIFFUSION = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
}
CLIPLESS = {**STABLE_DIFFUSION, "clip_sample": False}
SCHEDULERS = {
    "ddim": lambda: diffusers.DDIMScheduler(**CLIPLESS, set_alpha_to_one=False, steps_offset=1),
    "ddpm": lambda: diffusers.DDPMScheduler(**CLIPLESS),
    "dpmsolver++2m": lambda: diffusers.DPMSolverMultistepScheduler(**STABLE_DIFFUSION),
    "dpmsolver++2m-2023": lambda: diffusers.DPMSolverMultistepScheduler(
        **STABLE_DIFFUSION, final_sigmas_type="sigma_min"
    ),
    "dpmsolver++2m-karras": lambda: diffusers.DPMSolverMultistepScheduler(
        **STABLE_DIFFUSION, use_karras_sigmas=True
    ),
    "dpmsolver++sde": lambda: diffusers.DPMSolverMultistepScheduler(
        **STABLE_DIFFUSION, algorithm_type="sde-dpmsolver++"
    ),
    "euler": lambda: diffusers.EulerDiscreteScheduler(**STABLE_DIFFUSION),
    "euler-ancestral": lambda: diffusers.EulerAncestralDiscreteScheduler(**STABLE_DIFFUSION),
    "heun": lambda: diffusers.HeunDiscreteScheduler(**STABLE_DIFFUSION),
    "lms": lambda: diffusers.LMSDiscreteScheduler(**STABLE_DIFFUSION),
    "pndm": lambda: diffusers.PNDMScheduler(**STABLE_DIFFUSION, skip_prk_steps=True),
    "unipc": lambda: diffusers.UniPCMultistepScheduler(**STABLE_DIFFUSION),
    "deis": lambda: diffusers.DEISMultistepScheduler(**STABLE_DIFFUSION),
}


def gains_by_autograd(scheduler, steps):
    """Differentiate z_0 through the scheduler as it stands, with random predictions and sampler noise."""
    scheduler.set_timesteps(steps)
    torch.manual_seed(0)
    predictions = torch.randn(len(scheduler.timesteps), 1, 1, 2, 2, dtype=torch.float64, requires_grad=True)
    latents = torch.randn(1, 1, 2, 2, dtype=torch.float64) * scheduler.init_noise_sigma
    for prediction, timestep in zip(predictions, scheduler.timesteps, strict=True):
        scheduler.scale_model_input(latents, timestep)
        latents = scheduler.step(prediction, timestep, latents, return_dict=False)[0]
    (gradient,) = torch.autograd.grad(latents[0, 0, 0, 0], predictions)
    return gradient[:, 0, 0, 0, 0]


@pytest.mark.parametrize("steps", [3, 20])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_gains_match_autograd_through_the_real_scheduler(name, steps):
    timesteps, gains = direct_path_gains(SCHEDULERS[name](), steps)
    reference = SCHEDULERS[name]()
    expected = gains_by_autograd(reference, steps)
    assert gains.dtype == torch.float64
    assert torch.equal(timesteps, reference.timesteps)
    torch.testing.assert_close(gains, expected.double(), rtol=1e-5, atol=1e-6)


def test_ddim_gains_match_the_closed_form():
    scheduler = SCHEDULERS["ddim"]()
    timesteps, gains = direct_path_gains(scheduler, 10)
    kept = scheduler.alphas_cumprod.double()[timesteps]
    before = torch.cat([kept[1:], scheduler.final_alpha_cumprod.double().reshape(1)])
    # z_s / sqrt(abar_s) = z_t / sqrt(abar_t) + (n_s - n_t) eps with n = sqrt((1 - abar) / abar)
    noise = lambda abar: ((1 - abar) / abar).sqrt()  # noqa: E731
    torch.testing.assert_close(gains, before[-1].sqrt() * (noise(before) - noise(kept)), rtol=1e-5, atol=1e-8)


def test_the_scheduler_is_left_alone():
    scheduler = SCHEDULERS["euler"]()
    scheduler.set_timesteps(7)
    direct_path_gains(scheduler, 20)
    assert len(scheduler.timesteps) == 7
    assert scheduler.step_index is None


def test_clipping_does_not_bend_the_gains():
    clipping = diffusers.DDIMScheduler(**{**CLIPLESS, "clip_sample": True})
    plain = diffusers.DDIMScheduler(**CLIPLESS)
    assert torch.equal(direct_path_gains(clipping, 10)[1], direct_path_gains(plain, 10)[1])


@pytest.mark.parametrize(
    "scheduler",
    [
        diffusers.DDIMScheduler(prediction_type="v_prediction"),
        diffusers.FlowMatchEulerDiscreteScheduler(),
    ],
)
def test_other_predictions_are_refused_plainly(scheduler):
    with pytest.raises(UserError, match="predicts noise"):
        direct_path_gains(scheduler, 10)


def test_no_steps_are_refused():
    with pytest.raises(UserError, match="from 1 to 1000, not 0"):
        direct_path_gains(SCHEDULERS["ddim"](), 0)


def test_official_weights_reproduce_the_authors_uneven_ends():
    """At 20 steps of DPM-Solver++ 2M: a fifth of the weight on the last step, two signs turned.

    The diffusers release of the authors' time ended at the smallest training noise level.
    """
    scheduler = SCHEDULERS["dpmsolver++2m-2023"]()
    weights = step_weights(*direct_path_gains(scheduler, 20), "official", scheduler)
    torch.testing.assert_close(weights[0].item(), -0.217, rtol=0, atol=1e-3)
    assert ((weights[1:16] > -0.405) & (weights[1:16] < -0.366)).all()
    ends = torch.tensor([-0.253, 0.133, 0.298, -2.124], dtype=torch.float64)
    torch.testing.assert_close(weights[-4:], ends, rtol=0, atol=1e-3)
    assert 0.20 < weights[-1].abs() / weights.abs().sum() < 0.25


def test_official_weights_are_even_for_the_sampler_they_were_made_for():
    scheduler = SCHEDULERS["ddpm"]()
    weights = step_weights(*direct_path_gains(scheduler, 1000), "official", scheduler)
    torch.testing.assert_close(weights / weights.mean(), torch.ones_like(weights), rtol=1e-3, atol=0)


def test_standardised_weights_are_even_and_keep_the_geometric_mean():
    scheduler = SCHEDULERS["dpmsolver++2m"]()
    timesteps, gains = direct_path_gains(scheduler, 20)
    weights = step_weights(timesteps, gains, "standardised", scheduler)
    assert (weights == weights[0]).all() and weights[0] < 0
    torch.testing.assert_close(weights.abs().prod(), gains.abs().prod(), rtol=1e-9, atol=0)


IDLE = {
    "kdpm2": (lambda: diffusers.KDPM2DiscreteScheduler(**STABLE_DIFFUSION), 11, 23),
    "dpm-single": (
        lambda: diffusers.DPMSolverSinglestepScheduler(
            **STABLE_DIFFUSION, solver_order=3, algorithm_type="dpmsolver", final_sigmas_type="sigma_min"
        ),
        4,
        12,
    ),
    "ddim-linspace": (
        lambda: diffusers.DDIMScheduler(**CLIPLESS, timestep_spacing="linspace", set_alpha_to_one=False),
        1,
        12,
    ),
}


@pytest.mark.parametrize("name", IDLE)
def test_steps_that_do_not_move_the_image_have_no_standardised_weight(name):
    make, idle, total = IDLE[name]
    expected = gains_by_autograd(make(), 12).double().numpy()
    assert (int((expected == 0).sum()), len(expected)) == (idle, total)
    timesteps, gains = direct_path_gains(make(), 12)
    weights = step_weights(timesteps, gains, "standardised", make()).numpy()
    assert (weights[expected == 0] == 0).all()
    np.testing.assert_allclose(weights[expected != 0], -gmean(np.abs(expected[expected != 0])), rtol=1e-5)


@pytest.mark.parametrize(
    ("scheduler", "steps", "message"),
    [
        (
            diffusers.UniPCMultistepScheduler(**STABLE_DIFFUSION, solver_type="bh1"),
            10,
            "UniPC.* divides by zero",
        ),
        (
            diffusers.DDIMScheduler(**CLIPLESS, rescale_betas_zero_snr=True, timestep_spacing="trailing"),
            10,
            "rescale_betas_zero_snr begins where all is noise",
        ),
        (
            diffusers.DDPMScheduler(**CLIPLESS, variance_type="learned_range"),
            10,
            "DDPM.* cannot take 10 steps",
        ),
        (diffusers.UnCLIPScheduler(), 1, "UnCLIPScheduler cannot take 1 steps"),
        (diffusers.PNDMScheduler(**STABLE_DIFFUSION), 3, "PNDMScheduler cannot take 3 steps"),
    ],
    ids=lambda value: type(value).__name__ if hasattr(value, "config") else "",
)
def test_gains_are_numbers_or_there_is_one_line(scheduler, steps, message):
    with pytest.raises(UserError, match=message):
        direct_path_gains(scheduler, steps)


def test_a_scheduler_without_training_timesteps_is_one_line():
    without = diffusers.DDIMScheduler(**CLIPLESS)
    without._internal_dict = {k: v for k, v in without.config.items() if k != "num_train_timesteps"}
    with pytest.raises(UserError, match="DDIMScheduler has no training timesteps"):
        direct_path_gains(without, 10)


def test_official_weights_need_a_training_schedule():
    scheduler = diffusers.EDMEulerScheduler()
    with pytest.raises(UserError, match="EDMEulerScheduler has no training schedule"):
        step_weights(*direct_path_gains(scheduler, 5), "official", scheduler)


def test_raw_weights_are_the_gains_and_unknown_modes_are_refused():
    scheduler = SCHEDULERS["ddim"]()
    timesteps, gains = direct_path_gains(scheduler, 5)
    assert torch.equal(step_weights(timesteps, gains, "raw", scheduler), gains)
    with pytest.raises(UserError, match="standardised"):
        step_weights(timesteps, gains, "standardized", scheduler)
