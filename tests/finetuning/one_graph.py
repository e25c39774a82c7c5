"""The same gradients by plain autograd: the graph of all steps alive, every stop-gradient written out."""

import torch

from fairbench.models.hooks import Conditioning


def one_graph(model, texts, seeds, steps, guidance, *, learns, attached, loss, stop=None):
    """Backpropagate ``loss`` of z_0, or of the image predicted at ``stop``, into whatever is trained.

    ``learns`` and ``attached`` name steps: whose prediction has a gradient, and whose input lets it through.
    """
    conditioning = model.encode(texts)
    cut = Conditioning(conditioning.conditional.detach(), conditioning.unconditional.detach())
    scheduler = model.pipeline.scheduler.from_config(model.pipeline.scheduler.config)
    scheduler.set_timesteps(steps)
    latents = model.noise(seeds) * scheduler.init_noise_sigma
    for index, timestep in enumerate(scheduler.timesteps):
        scaled = scheduler.scale_model_input(latents, timestep)
        entering = scaled if index in attached else scaled.detach()
        noise = model.predict_noise(entering, timestep, conditioning if index in learns else cut, guidance)
        if index not in learns and index not in attached:
            noise = noise.detach()
        if index == stop:
            level = level_at(scheduler, index)
            latents = (scaled - (1 - level).sqrt() * noise) / level.sqrt()
            break
        latents = scheduler.step(noise, timestep, latents, return_dict=False)[0]
    loss(latents).backward()


def level_at(scheduler, index):
    """Share of the signal's variance that is left at a step."""
    if scheduler.init_noise_sigma != 1:
        return 1 / (1 + scheduler.sigmas[index] ** 2)
    return scheduler.alphas_cumprod[scheduler.timesteps[index]]


def relative_error(found, expected):
    return ((found - expected).norm() / expected.norm()).item()


def loss_of(latents):
    weights = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))
    return (latents.sin() * weights).sum()


def gathered(model):
    """Return all gradients of the text encoder as one vector, and clear them."""
    parameters = [p for p in model.pipeline.text_encoder.parameters() if p.grad is not None]
    vector = torch.cat([p.grad.flatten() for p in parameters])
    model.pipeline.text_encoder.zero_grad()
    return vector
