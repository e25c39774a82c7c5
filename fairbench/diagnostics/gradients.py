"""The gradients of direct finetuning made visible: figure 1 of arXiv 2311.07604 and what it leaves out.

Three rules side by side: ``exact`` (naive), ``raw`` (A only: the sampler's gains, uncoupled) and
``standardised`` (biased: uncoupled, every step alike). What is differentiated is the prompt embedding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from fairbench.diagnostics.contributions import step_contributions
from fairbench.diagnostics.noise_scale import gradient_noise_scale
from fairbench.features import cosine
from fairbench.finetuning.gains import path_gains, step_weights
from fairbench.models.hooks import Conditioning
from fairbench.seeding import image_seed

if TYPE_CHECKING:
    from fairbench.features import ImageFeatures
    from fairbench.models.text_to_image import TextToImage, Trajectory

RULES = ("exact", "raw", "standardised")
RANDOM_SCALE = 1e-2
"""Standard deviation of the random cotangent R ~ N(0, 1e-4 I)."""


@dataclass(frozen=True)
class Task:
    """Pull the images of one prompt towards what the model makes of another one, from the same noise.

    The loss is the mean over feature networks of one minus the cosine; the other prompt's embedding
    reaches zero.
    """

    model: TextToImage
    features: list[ImageFeatures]
    prompt: str
    towards: str
    steps: int
    guidance: float
    seed: int = 0

    @cached_property
    def sampler(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Timesteps, shape (S,), and gains, S x S; see `path_gains`."""
        return path_gains(self.model.pipeline.scheduler, self.steps)

    def weights(self, mode: str) -> torch.Tensor:
        """Return the weights of the S steps, see `step_weights`."""
        timesteps, gains = self.sampler
        return step_weights(timesteps, gains[-1], mode, self.model.pipeline.scheduler)

    def seeds(self, purpose: str, count: int) -> list[int]:
        """Return the seeds of ``count`` images."""
        return [image_seed("diagnose", "1", purpose, index, self.seed) for index in range(count)]

    def encode(self, prompt: str, count: int) -> Conditioning:
        """Return the embedding of ``prompt``, ``count`` times, without a graph."""
        with torch.no_grad():
            return self.model.encode([prompt] * count)

    def rollout(self, conditioning: Conditioning, seeds: list[int]) -> Trajectory:
        """Sample without gradients and keep the latents."""
        with torch.no_grad():
            return self.model.rollout(
                conditioning, seeds, steps=self.steps, guidance=self.guidance, keep=True
            )

    @torch.no_grad()
    def goal(self, seeds: list[int]) -> list[torch.Tensor]:
        """Return what every feature network sees in the images to be reached, N x D each."""
        trajectory = self.rollout(self.encode(self.towards, len(seeds)), seeds)
        images = self.model.decode(trajectory.final)
        return [network(images) for network in self.features]

    def losses(self, latents: torch.Tensor, goal: list[torch.Tensor]) -> torch.Tensor:
        """Return the loss of each of N final latents; the graph goes through them."""
        images = self.model.decode(latents)
        distances = [1 - cosine(net(images), seen) for net, seen in zip(self.features, goal, strict=True)]
        return torch.stack(distances).mean(0)


@dataclass(frozen=True)
class Diagnosis:
    """What was found.

    Attributes
    ----------
    steps
        One row per denoising step: timestep, gain, weights, scale with interval and share by rule.
    curves
        One row per rule, run and update of the loss curves.
    summary
        All that is one number.
    """

    steps: pd.DataFrame
    curves: pd.DataFrame
    summary: dict[str, Any]


def diagnose(
    task: Task,
    *,
    seeds: int,
    curves: Callable[[Task], pd.DataFrame],
    progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> Diagnosis:
    """Look at the gradients of ``task``.

    Parameters
    ----------
    task
        What is minimised, on which model.
    seeds
        Noises, and random cotangents, that means and intervals are over.
    curves
        Makes the loss curves, see `fairbench.diagnostics.curves`.
    progress
        Told ``(stage, done, total)``.
    """
    progress("gradients", 0, 2)
    timesteps, gains = task.sampler
    steps = pd.DataFrame({"step": range(1, len(timesteps) + 1), "timestep": timesteps.double().cpu().numpy()})
    steps["gain"] = gains[-1].numpy()
    for mode in ("standardised", "official"):
        steps[f"weight_{mode}"] = task.weights(mode).numpy()
    steps = pd.concat([steps, scales(task, seeds)], axis=1)
    progress("gradients", 1, 2)
    shares, of_the_update = anatomy(task, seeds)
    progress("gradients", 2, 2)
    table = curves(task)
    summary = _headline(steps) | of_the_update | _rates(table)
    return Diagnosis(pd.concat([steps, shares], axis=1), table, summary)


def scales(task: Task, count: int) -> pd.DataFrame:
    """Return the size of every step's term of each rule for a random cotangent R, as in figure 1.

    Columns ``scale_<rule>``, ``low_<rule>``, ``high_<rule>``: the mean and the 5 % and 95 % quantiles of the
    norm over ``count`` noises, each with an R of its own.
    """
    seeds = task.seeds("noise", count)
    conditioning = task.encode(task.prompt, count)
    trajectory = task.rollout(conditioning, seeds)
    generator = torch.Generator().manual_seed(image_seed("diagnose", "1", "cotangent", 0, task.seed))
    cotangent = (RANDOM_SCALE * torch.randn(trajectory.final.shape, generator=generator)).to(trajectory.final)
    columns: dict[str, np.ndarray] = {}
    for rule, terms in _terms(task, trajectory, conditioning, cotangent).items():
        norms = terms.flatten(2).norm(dim=2).numpy()
        low, high = np.quantile(norms, (0.05, 0.95), axis=1)
        columns |= {f"scale_{rule}": norms.mean(axis=1), f"low_{rule}": low, f"high_{rule}": high}
    return pd.DataFrame(columns)


def anatomy(task: Task, count: int) -> tuple[pd.DataFrame, dict[str, Any]]:
    r"""Take the first update of the task apart.

    Returns
    -------
    shares
        ``share_<rule>``: how much of the update G a step i makes, :math:`G_i \cdot G / |G|^2`. They sum to 1;
        one below zero works against the rest.
    numbers
        ``cosine``: between the naive gradient and those of the other rules, of the whole batch and of single
        images (mean, 5 % and 95 %). ``noise_scale``: see `gradient_noise_scale`.
    """
    seeds = task.seeds("update", count)
    conditioning = task.encode(task.prompt, count)
    trajectory = task.rollout(conditioning, seeds)
    latents = trajectory.final.requires_grad_()
    (cotangent,) = torch.autograd.grad(task.losses(latents, task.goal(seeds)).sum(), latents)
    terms = _terms(task, trajectory, conditioning, cotangent)
    shares = {f"share_{rule}": _shares(steps.mean(1).flatten(1)) for rule, steps in terms.items()}
    images = {rule: steps.sum(0).flatten(1) for rule, steps in terms.items()}
    numbers: dict[str, Any] = {"cosine": {}, "noise_scale": {}}
    for rule, gradients in images.items():
        numbers["noise_scale"][rule] = gradient_noise_scale(gradients)
        if rule != "exact":
            single = cosine(gradients, images["exact"]).numpy()
            low, high = np.quantile(single, (0.05, 0.95))
            numbers["cosine"][rule] = {
                "update": cosine(gradients.mean(0), images["exact"].mean(0)).item(),
                "image": {"mean": float(single.mean()), "low": float(low), "high": float(high)},
            }
    return pd.DataFrame(shares), numbers


def _terms(
    task: Task, trajectory: Trajectory, conditioning: Conditioning, cotangent: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Return rule -> the S x N x L x D terms that its gradient is the sum of."""
    exact, direct = step_contributions(
        task.model, trajectory, conditioning, cotangent, task.sampler[1], guidance=task.guidance
    )
    weighted = {mode: direct * task.weights(mode).to(direct).reshape(-1, 1, 1, 1) for mode in RULES[1:]}
    return {"exact": exact} | weighted


def _shares(steps: torch.Tensor) -> np.ndarray:
    steps = steps.double()
    update = steps.sum(0)
    return (steps @ update / update.square().sum()).numpy()


def _headline(steps: pd.DataFrame) -> dict[str, Any]:
    """At the noisiest step: the exact term's size in multiples of the others', and how far each spreads."""
    first = steps.iloc[0]
    return {
        "exact_over": {rule: _ratio(first["scale_exact"], first[f"scale_{rule}"]) for rule in RULES[1:]},
        "spread": {rule: _ratio(first[f"high_{rule}"], first[f"low_{rule}"]) for rule in RULES},
    }


def _ratio(above: float, below: float) -> float | None:
    return float(above / below) if below > 0 and np.isfinite(above / below) else None


def _rates(curves: pd.DataFrame) -> dict[str, Any]:
    """Return, by rule, the last tenth's loss and how often a gradient was not finite or would be clipped."""
    by_rule = curves.groupby("rule", sort=False)
    return {
        "nonfinite_rate": {str(rule): float((~rows["finite"]).mean()) for rule, rows in by_rule},
        "clip_rate": {str(rule): float(rows["clipped"].mean()) for rule, rows in by_rule},
        "final_loss": {
            str(rule): float(rows.loc[rows["update"] > 0.9 * rows["update"].max(), "loss"].mean())
            for rule, rows in by_rule
        },
    }
