"""Loss curves of the exact and the adjusted gradients on one task, all from the same noise."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pandas as pd
import torch

from fairbench.diagnostics.gradients import RULES, Task
from fairbench.finetuning.gradient import adjusted_gradient, exact_gradient
from fairbench.models.hooks import Conditioning

if TYPE_CHECKING:
    from fairbench.models.text_to_image import Trajectory

BANK = 16
"""Noises that the images of an update are drawn from."""


def loss_curves(
    task: Task,
    *,
    updates: int,
    runs: int,
    images: int,
    learning_rate: float,
    clip: float,
    progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> pd.DataFrame:
    """Minimise the loss of ``task`` with Adam on the prompt embedding, by each rule.

    The runs of a rule differ by their noise and go through the model as one batch; nothing is clipped.

    Parameters
    ----------
    task
        What is minimised.
    updates, runs, images
        Updates per run, runs per rule, images per update of a run.
    learning_rate
        Of Adam.
    clip
        A gradient of a larger norm is counted in ``clipped``.
    progress
        Told ``(stage, done, total)``.

    Returns
    -------
    One row per rule, run and update: ``loss`` (before the update), ``norm`` of the gradient, ``finite``
    and ``clipped``. A gradient that is not finite changes nothing.
    """
    seeds = task.seeds("curves", BANK)
    goal = task.goal(seeds)
    rows = []
    for number, rule in enumerate(RULES):
        start = task.encode(task.prompt, 1)
        embedding = start.conditional.repeat(runs, 1, 1).requires_grad_()
        optimiser = torch.optim.Adam([embedding], lr=learning_rate)
        generator = torch.Generator().manual_seed(task.seed)
        for update in range(1, updates + 1):
            drawn = torch.stack([torch.randperm(BANK, generator=generator)[:images] for _ in range(runs)])
            chosen = drawn.flatten().tolist()
            conditioning = Conditioning(
                embedding.repeat_interleave(images, 0), start.unconditional.expand(len(chosen), -1, -1)
            )
            trajectory = task.rollout(conditioning, [seeds[index] for index in chosen])
            latents = trajectory.final.requires_grad_()
            losses = task.losses(latents, [seen[chosen] for seen in goal]).reshape(runs, images).mean(1)
            (cotangent,) = torch.autograd.grad(losses.sum(), latents)
            optimiser.zero_grad()
            _accumulate(task, rule, trajectory, conditioning, cotangent)
            norms = _settle(embedding)
            optimiser.step()
            for run, (loss, norm) in enumerate(zip(losses.tolist(), norms.tolist(), strict=True)):
                rows.append({"rule": rule, "run": run, "update": update, "loss": loss, "norm": norm})
            progress("loss curves", number * updates + update, len(RULES) * updates)
    table = pd.DataFrame(rows)
    finite = table["norm"].notna()
    return table.assign(finite=finite, clipped=finite & (table["norm"] > clip))


def _accumulate(
    task: Task, rule: str, trajectory: Trajectory, conditioning: Conditioning, cotangent: torch.Tensor
) -> None:
    arguments = (task.model, trajectory, conditioning, cotangent)
    if rule == "exact":
        exact_gradient(*arguments, task.sampler[1], guidance=task.guidance)
    else:
        adjusted_gradient(*arguments, task.weights(rule), guidance=task.guidance)


def _settle(embedding: torch.Tensor) -> torch.Tensor:
    """Return the norm of every run's gradient, nan where it is not finite, and take that gradient away."""
    gradient = embedding.grad
    assert gradient is not None  # noqa: S101 for the type checker: the embedding was used
    norms = gradient.flatten(1).norm(dim=1)
    broken = ~norms.isfinite()
    gradient[broken] = 0
    return norms.masked_fill(broken, torch.nan)
