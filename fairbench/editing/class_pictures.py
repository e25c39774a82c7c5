"""Pictures of every class, made by the model from prompts that name it: what trained baselines learn from."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from fairbench.attributes import AttributeSpace
from fairbench.intervention import FitContext
from fairbench.seeding import image_seed
from fairbench.storage import atomic_write_tensors, read_tensors
from fairbench.wording import described

BATCH = 16


def class_latents(context: FitContext, space: AttributeSpace, k: int, count: int) -> Tensor:
    """Return final latents of ``count`` images of class ``k``, image i from training prompt i mod P."""
    prompts = [context.prompts[index % len(context.prompts)] for index in range(count)]
    texts = [described(prompt.text, space, k) for prompt in prompts]
    where = (context.suite, context.suite_version, f"references/{space.labels[k]}")
    seeds = [image_seed(*where, index, context.seed) for index in range(count)]
    model, batches = context.model, []
    for start in range(0, count, BATCH):
        rows = slice(start, start + BATCH)
        with torch.no_grad():
            trajectory = model.rollout(
                model.encode(texts[rows]),
                seeds[rows],
                steps=model.defaults.steps,
                guidance=model.defaults.guidance,
            )
        batches.append(trajectory.final.cpu())
    return torch.cat(batches)


def kept(path: Path, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return what ``make()`` made, from the file ``path`` if it did so before."""
    if not path.exists():
        atomic_write_tensors(path, make())
    return read_tensors(path)
