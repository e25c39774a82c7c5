"""The terms of every step against the gradients that they add up to, and against autograd in one graph."""

import pytest
import torch

from fairbench.diagnostics import contributions
from fairbench.diagnostics.contributions import step_contributions
from fairbench.finetuning.gains import path_gains, step_weights
from fairbench.finetuning.gradient import adjusted_gradient, exact_gradient
from fairbench.models.hooks import Conditioning
from fairbench.models.text_to_image import TextToImage
from tests.tiny import tiny_pipeline

STEPS, SEEDS, TEXTS = 5, [3, 4, 5], ["the face of a pilot", "the face of a nurse", "a cook"]


@pytest.fixture(params=[("ddim", 3.0), ("dpm", 3.0), ("ddim", 1.0)], ids=str)
def rolled(request):
    """Return a model, its guidance, a kept rollout, a conditioning without a graph, and a cotangent."""
    scheduler, guidance = request.param
    model = TextToImage(tiny_pipeline(scheduler), "tiny")
    with torch.no_grad():
        conditioning = model.encode(TEXTS)
        trajectory = model.rollout(conditioning, SEEDS, steps=STEPS, guidance=guidance, keep=True)
    cotangent = torch.randn(trajectory.final.shape, generator=torch.Generator().manual_seed(0))
    return model, guidance, trajectory, conditioning, cotangent


def leaf(conditioning):
    return Conditioning(conditioning.conditional.clone().requires_grad_(), conditioning.unconditional)


def close(found, expected):
    return (found - expected).norm() / expected.norm() < 1e-4


def test_the_terms_add_up_to_the_gradients(rolled):
    model, guidance, trajectory, conditioning, cotangent = rolled
    timesteps, gains = path_gains(model.pipeline.scheduler, STEPS)
    exact, direct = step_contributions(model, trajectory, conditioning, cotangent, gains, guidance=guidance)
    whole = leaf(conditioning)
    exact_gradient(model, trajectory, whole, cotangent, gains, guidance=guidance)
    assert close(exact.sum(0), whole.conditional.grad)
    for mode in ("raw", "standardised", "official"):
        weights = step_weights(timesteps, gains[-1], mode, model.pipeline.scheduler)
        adjusted = leaf(conditioning)
        adjusted_gradient(model, trajectory, adjusted, cotangent, weights, guidance=guidance)
        assert close((weights.float().reshape(-1, 1, 1, 1) * direct).sum(0), adjusted.conditional.grad)


def test_each_exact_term_is_what_autograd_sends_to_that_step(rolled):
    model, guidance, _, conditioning, cotangent = rolled
    scheduler = model.pipeline.scheduler.from_config(model.pipeline.scheduler.config)
    scheduler.set_timesteps(STEPS)
    latents, own = model.noise(SEEDS) * scheduler.init_noise_sigma, []
    for timestep in scheduler.timesteps:  # an embedding of its own for every step, one graph for all of them
        own.append(conditioning.conditional.clone().requires_grad_())
        noise = model.predict_noise(
            latents, timestep, Conditioning(own[-1], conditioning.unconditional), guidance
        )
        latents = scheduler.step(noise, timestep, latents, return_dict=False)[0]
    expected = torch.autograd.grad(latents, own, cotangent)
    _, gains = path_gains(model.pipeline.scheduler, STEPS)
    exact, _ = step_contributions(model, *rolled[2:], gains, guidance=guidance)
    for found, each in zip(exact, expected, strict=True):
        assert close(found, each)


def test_images_taken_in_portions_are_the_same(rolled, monkeypatch):
    model, guidance, *rest = rolled
    _, gains = path_gains(model.pipeline.scheduler, STEPS)
    whole = step_contributions(model, *rest, gains, guidance=guidance)
    monkeypatch.setattr(contributions, "PIXELS_PER_CHUNK", 2 * 64)
    for found, expected in zip(
        step_contributions(model, *rest, gains, guidance=guidance), whole, strict=True
    ):
        assert close(found, expected)


def test_a_rollout_without_its_latents_is_refused(rolled):
    model, guidance, _, conditioning, cotangent = rolled
    with torch.no_grad():
        bare = model.rollout(conditioning, SEEDS, steps=2, guidance=guidance)
    with pytest.raises(ValueError, match="keep=True"):
        step_contributions(model, bare, conditioning, cotangent, torch.ones(2, 2), guidance=guidance)
