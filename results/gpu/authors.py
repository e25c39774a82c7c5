"""One update as the authors of arXiv 2311.07604 make it, with our judge, loss and adapter.

tests/benchmarks/test_update.py times it on a CPU, and counts its rows.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from time import perf_counter
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from fairbench.finetuning.adapters import adapter
from fairbench.finetuning.batches import Batch, Batches
from fairbench.finetuning.gains import direct_path_gains, step_weights
from fairbench.finetuning.objective import Objective
from fairbench.finetuning.semantics import OriginalPictures
from fairbench.intervention import FitContext

MICRO_BATCH = 4
"""Images that are sampled with a graph at once."""


@contextmanager
def authors_update(context: FitContext, settings: Any) -> Iterator[Callable[[], None]]:
    """Yield the update.

    It generates; generates with the original model; generates again in micro-batches with a graph of all
    steps, each of them checkpointed, its input detached and its noise prediction hooked. The first two are
    taken in one batch, and targets are found for a micro-batch at a time: neither is slower than theirs.
    """
    model, steps = context.model, settings.steps
    sampling = {"steps": steps, "guidance": model.defaults.guidance}
    timesteps, gains = direct_path_gains(model.pipeline.scheduler, steps)
    factors = step_weights(timesteps, gains, "standardised", model.pipeline.scheduler) / gains
    images = settings.images_per_prompt
    batch = Batches(context, settings.prompts_per_update, images, images)[0]
    generate = partial(model.generate, batch_size=batch.total, **sampling)
    with adapter(model, "text_encoder", settings.rank, context.seed) as lora:
        optimiser = torch.optim.AdamW(lora.parameters.values())

        def update() -> None:
            optimiser.zero_grad()
            context.judge.logits(generate(batch.texts, batch.seeds))
            originals = OriginalPictures(generate, context, {"made": perf_counter()})  # anew in every update
            with lora.off():
                originals.look_up(batch.pictures, model.device)
            objective = Objective(context, originals, settings, model.decode, MICRO_BATCH)
            for start in range(0, batch.total, MICRO_BATCH):
                rows = slice(start, start + MICRO_BATCH)
                texts, seeds = batch.texts[rows], batch.seeds[rows]
                part = Batch(0, texts, seeds, MICRO_BATCH, batch.generator, batch.total)
                latents = sampled_with_graph(model, part, factors, **sampling)
                latents.backward(objective(latents, part)[0])
            optimiser.step()

        yield update


def sampled_with_graph(model: Any, batch: Batch, factors: Tensor, steps: int, guidance: float) -> Tensor:
    """Sample latents with a graph through the scheduler and, separately, through each noise prediction."""
    conditioning = model.encode(batch.texts)
    scheduler = type(model.pipeline.scheduler).from_config(model.pipeline.scheduler.config)
    scheduler.set_timesteps(steps, device=model.device)
    latents = model.noise(batch.seeds) * scheduler.init_noise_sigma
    for timestep, factor in zip(scheduler.timesteps, factors.tolist(), strict=True):
        entering = scheduler.scale_model_input(latents.detach(), timestep)
        noise = checkpoint(
            model.predict_noise, entering, timestep, conditioning, guidance, use_reentrant=False
        )
        noise.register_hook(lambda gradient, factor=factor: gradient * factor)
        latents = scheduler.step(noise, timestep, latents, return_dict=False)[0]
    return latents
