"""The chunked gradients against one-graph autograd, and the identities that tie the modes together."""

from functools import partial

import pytest
import torch

from fairbench.finetuning.gains import direct_path_gains, path_gains, step_weights
from fairbench.finetuning.gradient import adjusted_gradient, exact_gradient
from fairbench.finetuning.rules import subsample
from fairbench.models.text_to_image import TextToImage
from tests.tiny import tiny_pipeline

STEPS, GUIDANCE, SEEDS = 6, 3.0, [1, 2, 3]
TEXTS = ["the face of a pilot", "the face of a nurse", "the face of a pilot"]


@pytest.fixture(params=["ddim", "dpm"])
def model(request):
    model = TextToImage(tiny_pipeline(request.param), "tiny")
    model.pipeline.text_encoder.requires_grad_(True)
    return model


def loss_of(latents):
    torch.manual_seed(0)
    return (latents.sin() * torch.randn(latents.shape)).sum()


def kept_rollout(model, learn=()):
    """Return a no-grad rollout with its latents and some graphs, the conditioning with its graph, and g."""
    conditioning = model.encode(TEXTS)
    with torch.no_grad():
        trajectory = model.rollout(
            conditioning, SEEDS, steps=STEPS, guidance=GUIDANCE, keep=True, learn=learn
        )
    final = trajectory.final.clone().requires_grad_()
    return trajectory, conditioning, torch.autograd.grad(loss_of(final), final)[0]


def gathered(model):
    """Return all gradients of the text encoder as one vector, and clear them."""
    parameters = [p for p in model.pipeline.text_encoder.parameters() if p.grad is not None]
    vector = torch.cat([p.grad.flatten() for p in parameters])
    model.pipeline.text_encoder.zero_grad()
    return vector


def one_graph(model, factors=None, detach=True):
    """Keep the graph of all steps alive, detach the inputs, hook every prediction: the authors' way."""
    conditioning = model.encode(TEXTS)
    scheduler = model.pipeline.scheduler.from_config(model.pipeline.scheduler.config)
    scheduler.set_timesteps(STEPS)
    latents = model.noise(SEEDS) * scheduler.init_noise_sigma
    for index, timestep in enumerate(scheduler.timesteps):
        entering = latents.detach() if detach else latents
        entering = scheduler.scale_model_input(entering, timestep)
        noise = model.predict_noise(entering, timestep, conditioning, GUIDANCE)
        if factors is not None:
            noise.register_hook(partial(torch.mul, factors[index].item()))
        latents = scheduler.step(noise, timestep, latents, return_dict=False)[0]
    loss_of(latents).backward()
    return gathered(model)


def relative_error(found, expected):
    return ((found - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize("learn", [(), (0, 4), range(STEPS)])
@pytest.mark.parametrize("chunk", [1, 4, None])
@pytest.mark.parametrize("mode", ["raw", "standardised", "official"])
def test_chunks_and_kept_graphs_add_up_to_the_hook_and_detach_gradient(model, mode, chunk, learn):
    timesteps, gains = direct_path_gains(model.pipeline.scheduler, STEPS)
    weights = step_weights(timesteps, gains, mode, model.pipeline.scheduler)
    adjusted_gradient(model, *kept_rollout(model, learn), weights, guidance=GUIDANCE, chunk=chunk)
    assert relative_error(gathered(model), one_graph(model, weights / gains)) < 1e-4


def test_exact_is_backpropagation_through_the_whole_chain(model):
    _, gains = path_gains(model.pipeline.scheduler, STEPS)
    exact_gradient(model, *kept_rollout(model), gains, guidance=GUIDANCE)
    assert relative_error(gathered(model), one_graph(model, detach=False)) < 1e-4


@pytest.mark.filterwarnings("ignore::fairbench.errors.Notice")
def test_a_scheduler_that_asks_for_clipping_is_trained_as_it_samples():
    """The gains know of no clipping: once it bent the samples alone, and the gradient pointed elsewhere."""
    pipeline = tiny_pipeline("ddim")
    pipeline.scheduler = pipeline.scheduler.from_config(pipeline.scheduler.config, clip_sample=True)
    model = TextToImage(pipeline, "tiny")
    model.pipeline.text_encoder.requires_grad_(True)
    _, gains = path_gains(pipeline.scheduler, STEPS)
    exact_gradient(model, *kept_rollout(model), gains, guidance=GUIDANCE)
    assert relative_error(gathered(model), one_graph(model, detach=False)) < 1e-4


def test_raw_is_exact_where_the_network_ignores_its_latents(model, monkeypatch):
    predict = TextToImage.predict_noise
    blind = lambda self, latents, *rest, **named: predict(self, torch.ones_like(latents), *rest, **named)  # noqa: E731
    monkeypatch.setattr(TextToImage, "predict_noise", blind)
    _, gains = direct_path_gains(model.pipeline.scheduler, STEPS)
    adjusted_gradient(model, *kept_rollout(model), gains, guidance=GUIDANCE)
    assert relative_error(gathered(model), one_graph(model, detach=False)) < 1e-4


def test_exact_and_raw_differ_for_a_network_that_looks(model):
    _, gains = direct_path_gains(model.pipeline.scheduler, STEPS)
    adjusted_gradient(model, *kept_rollout(model), gains, guidance=GUIDANCE)
    assert relative_error(gathered(model), one_graph(model, detach=False)) > 1e-3


def test_the_mean_over_many_subsets_is_the_full_sum(model):
    _, gains = direct_path_gains(model.pipeline.scheduler, STEPS)
    # the gradient is linear in the weights: take the gradient of every step once, then average in their span
    rollouts = kept_rollout(model)
    per_step = []
    for step in torch.eye(STEPS):
        trajectory, _, cotangent = rollouts
        adjusted_gradient(model, trajectory, model.encode(TEXTS), cotangent, step, guidance=GUIDANCE)
        per_step.append(gathered(model))
    per_step = torch.stack(per_step).double()
    generator = torch.Generator().manual_seed(0)
    draws = torch.stack([subsample(gains, 4, generator) for _ in range(4000)])
    assert relative_error(draws.mean(0) @ per_step, gains @ per_step) < 0.03
    adjusted_gradient(model, *rollouts, draws[0], guidance=GUIDANCE)
    assert relative_error(gathered(model), (draws[0] @ per_step).float()) < 1e-4


@pytest.mark.parametrize(("total", "count"), [(12, 4), (12, 5), (20, 20), (7, 1), (5, 4)])
def test_subsets_are_stratified_and_unbiased(total, count):
    generator = torch.Generator().manual_seed(1)
    weights = -torch.rand(total, dtype=torch.float64, generator=generator) - 0.5
    draws = torch.stack([subsample(weights, count, generator) for _ in range(8000)])
    hits = (draws / weights * count / total).round(decimals=6)
    torch.testing.assert_close(hits.sum(1), torch.full((8000,), float(count), dtype=torch.float64))
    spread = hits.std(0) / 8000**0.5
    assert ((hits.mean(0) - count / total).abs() <= 4.5 * spread + 1e-9).all()
    if total % count == 0:  # the stretches end between steps, so each holds exactly one hit
        assert (hits.reshape(8000, count, -1).sum(2) == 1).all()


def test_subsets_are_of_the_steps_that_have_a_weight():
    """Of these four there are two at a time, however many others lie between them."""
    generator = torch.Generator().manual_seed(1)
    weights = torch.tensor([0.0, -1, 0, -2, 0, 0, -3, -4, 0], dtype=torch.float64)
    draws = torch.stack([subsample(weights, 2, generator) for _ in range(4000)])
    assert ((draws != 0).sum(1) == 2).all()
    torch.testing.assert_close(draws.mean(0), weights, rtol=0.1, atol=0)


def test_all_steps_are_the_whole_sum():
    weights = torch.rand(20, dtype=torch.float64)
    assert torch.equal(subsample(weights, 20, torch.Generator().manual_seed(0)), weights)


def test_kept_graphs_leave_the_sampling_and_what_each_step_adds_as_they_are(model):
    _, gains = direct_path_gains(model.pipeline.scheduler, STEPS)
    plain, kept = kept_rollout(model), kept_rollout(model, learn=(0, 2, 5))
    assert torch.equal(plain[0].final, kept[0].final)
    assert not kept[0].final.requires_grad and not any(latent.requires_grad for latent in kept[0].latents)
    norms = [adjusted_gradient(model, *rollout, gains, guidance=GUIDANCE) for rollout in (plain, kept)]
    torch.testing.assert_close(*norms)


def test_without_guidance_only_the_conditional_branch_is_used(model):
    trajectory, conditioning, cotangent = kept_rollout(model)
    _, gains = direct_path_gains(model.pipeline.scheduler, STEPS)
    before = model.unet_rows
    adjusted_gradient(model, trajectory, conditioning, cotangent, gains, guidance=1.0)
    assert model.unet_rows - before == STEPS * len(SEEDS)
    found = gathered(model)
    embeddings = model.encode(TEXTS).conditional
    for gain, timestep, latents in zip(gains, trajectory.timesteps, trajectory.latents, strict=True):
        noise = model.pipeline.unet(latents, timestep, embeddings).sample  # there is no other branch
        (gain.float() * cotangent * noise).sum().backward(retain_graph=True)
    assert relative_error(found, gathered(model)) < 1e-4


@pytest.mark.parametrize("learn", [(), (1, 2)])
def test_a_trained_unet_receives_its_gradient_too(model, learn):
    model.pipeline.unet.requires_grad_(True)
    _, gains = direct_path_gains(model.pipeline.scheduler, STEPS)
    adjusted_gradient(model, *kept_rollout(model, learn), gains, guidance=GUIDANCE, chunk=5)
    found = torch.cat([p.grad.flatten() for p in model.pipeline.unet.parameters()])
    model.pipeline.unet.zero_grad()
    one_graph(model)
    expected = torch.cat([p.grad.flatten() for p in model.pipeline.unet.parameters()])
    assert relative_error(found, expected) < 1e-4


def test_a_rollout_without_its_latents_is_refused(model):
    with torch.no_grad():
        conditioning = model.encode(TEXTS)
        trajectory = model.rollout(conditioning, SEEDS, steps=2, guidance=GUIDANCE)
    with pytest.raises(ValueError, match="keep=True"):
        adjusted_gradient(model, trajectory, conditioning, trajectory.final, torch.ones(2), guidance=GUIDANCE)
