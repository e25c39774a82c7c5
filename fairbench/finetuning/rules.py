"""What tells one direct finetuning from another: which noise predictions learn, and from which image.

A rule is made anew for every update; the engine turns it into a gradient.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from fairbench.errors import UserError
from fairbench.finetuning.gains import probed, signal_left, step_weights
from fairbench.seeding import generators, image_seed

if TYPE_CHECKING:
    from fairbench.models.hooks import Conditioning
    from fairbench.models.text_to_image import TextToImage, Trajectory


@dataclass(frozen=True)
class Sampler:
    r"""A sampler of S steps as the affine map that it is.

    Attributes
    ----------
    timesteps
        Shape (S,).
    gains
        S x S, see `fairbench.finetuning.gains.path_gains`.
    scales
        What the latents of each step are multiplied by before they enter the U-Net, shape (S,).
    scheduler
        Where all this comes from.
    """

    timesteps: torch.Tensor
    gains: torch.Tensor
    scales: torch.Tensor
    scheduler: Any

    @classmethod
    def of(cls, scheduler: Any, steps: int) -> Sampler:
        """Probe ``scheduler``, see `path_gains`."""
        return cls(*probed(scheduler, steps), scheduler)

    def __len__(self) -> int:
        return len(self.timesteps)

    def levels(self, step: int) -> tuple[float, float]:
        r"""Return :math:`\sqrt{\bar\alpha}` and :math:`\sqrt{1-\bar\alpha}` at a step."""
        if (scale := self.scales[step]) != 1:  # such samplers add noise to z_0 and scale both for the U-Net
            return scale.item(), (1 - scale**2).sqrt().item()
        cumulative = signal_left(self.scheduler, self.timesteps[step])
        return cumulative.sqrt().item(), (1 - cumulative).sqrt().item()

    def onto(self, stop: int | None = None) -> torch.Tensor:
        r"""Return the gain of every noise prediction on the image the loss sees, shape (S,), float64.

        That image is :math:`z_0`, or the one predicted at step k = ``stop``,

        .. math:: \hat x_0 = \frac{s_k z_k - \sqrt{1-\bar\alpha_k}\,\epsilon_k}{\sqrt{\bar\alpha_k}} .
        """
        if stop is None:
            return self.gains[-1]
        signal, noise = self.levels(stop)
        gains = self.gains[stop - 1] * self.scales[stop] / signal if stop else torch.zeros_like(self.gains[0])
        return gains.index_fill(0, torch.tensor(stop), -noise / signal)

    def predicted(self, step: int, latents: torch.Tensor, prediction: torch.Tensor) -> torch.Tensor:
        r"""Return :math:`\hat x_0` as seen from ``step``, see `onto`; N x C x h x w."""
        signal, noise = self.levels(step)
        return (latents * self.scales[step].item() - noise * prediction) / signal


@dataclass(frozen=True)
class GradientRule:
    r"""How one update sends the gradient of the loss back through S denoising steps.

    .. math:: \frac{dL}{d\theta} = \sum_i \left(\frac{\partial\epsilon_i}{\partial\theta}\right)^{\!T} e_i,
              \qquad
              e_i = w_i\,g + \sum_{k>i,\ k\,attached} G_{k-1,i}
                    \left(\frac{\partial\epsilon_k}{\partial z_k}\right)^{\!T} e_k

    with g the gradient of the loss at the image that it sees.

    Attributes
    ----------
    weights
        :math:`w_i`, shape (S,): what arrives at a noise prediction directly; zero for none.
    attached
        Whether gradient also goes on into the input of the U-Net, shape (S,).
    stop
        The loss sees the image predicted at this step, and nothing is sampled after it; None for :math:`z_0`.
    noisings
        If positive, the loss sees the images predicted from as many fresh noisings of :math:`z_0` at the
        level of the last step, and the gradient is their mean.
    """

    weights: torch.Tensor
    attached: torch.Tensor
    stop: int | None = None
    noisings: int = 0

    @classmethod
    def detached(cls, weights: torch.Tensor, stop: int | None = None, noisings: int = 0) -> GradientRule:
        """Return the rule whose U-Net inputs are all detached: its terms share nothing."""
        return cls(weights, torch.zeros(len(weights), dtype=torch.bool), stop, noisings)

    @classmethod
    def last(cls, sampler: Sampler, count: int) -> GradientRule:
        """Return the exact gradient truncated to the last ``count`` steps.

        Raises
        ------
        UserError
            If there are fewer steps, or they do not move the image.
        """
        if not 1 <= count <= len(sampler):
            raise UserError(
                f"{count} steps are to be trained, but there are only {len(sampler)} denoising steps: "
                "give at most as many"
            )
        place = torch.arange(len(sampler))
        first = len(sampler) - count
        weights = sampler.onto().where(place >= first, 0)
        if not weights.any():
            raise UserError(
                f"the last {count} steps of {type(sampler.scheduler).__name__} do not move the image: "
                "train more of them, or choose another sampler"
            )
        return cls(weights, place > first)


def only(weights: torch.Tensor, steps: Iterable[int]) -> torch.Tensor:
    """Return the weights of the given steps, and zero for all others."""
    chosen = torch.tensor(sorted(steps))
    return torch.zeros_like(weights).index_copy(0, chosen, weights[chosen])


def adjusted_rule(sampler: Sampler, mode: str, count: int | None, generator: torch.Generator) -> GradientRule:
    r"""Return the adjusted ("biased") rule: inputs detached, `step_weights`, ``count`` random steps.

    Raises
    ------
    UserError
        If ``count`` is more than the steps there are.
    """
    weights = step_weights(sampler.timesteps, sampler.onto(), mode, sampler.scheduler)
    if (count or 0) > (most := int(weights.count_nonzero())):
        raise UserError(
            f"timesteps_per_update is {count}, but only {most} denoising steps move the image: "
            "give at most as many"
        )
    return GradientRule.detached(subsample(weights, count or most, generator))


def subsample(weights: torch.Tensor, count: int, generator: torch.Generator) -> torch.Tensor:
    r"""Keep a stratified random ``count`` of S step weights, scaled so that their mean is the full sum.

    S counts those that are not zero.
    One point falls uniformly into each of ``count`` equal stretches of [0, S); a step is used as often as
    it was hit, with weight :math:`S/K`. ``count`` = S leaves the weights as they are.
    """
    learning = weights.nonzero().flatten()
    total = len(learning)
    within = torch.rand(count, dtype=torch.float64, generator=generator)
    steps = (
        ((torch.arange(count) + within) * total / count).long().clamp(max=total - 1)
    )  # rounding may reach S itself
    hits = torch.bincount(learning[steps], minlength=len(weights))
    return weights * hits.to(weights) * (total / count)


@torch.no_grad()
def views(
    rule: GradientRule,
    sampler: Sampler,
    model: TextToImage,
    trajectory: Trajectory,
    conditioning: Conditioning,
    seeds: list[int],
    guidance: float,
    at_once: int | None = None,
) -> Iterator[tuple[Trajectory, torch.Tensor]]:
    """Yield what the loss is to see, N x C x h x w latents, with the trajectory that led there.

    One view, unless the rule asks for fresh noisings of the final image; their noise follows from ``seeds``.
    """
    if rule.stop is not None:
        assert trajectory.latents is not None  # noqa: S101 the engine keeps them
        yield (
            trajectory,
            sampler.predicted(rule.stop, trajectory.latents[rule.stop], trajectory.prediction),
        )
    elif not rule.noisings:
        yield trajectory, trajectory.final
    for number in range(rule.noisings):
        step = len(sampler) - 1
        signal, level = sampler.levels(step)
        own = [image_seed("finetuning", "1", "noising", number, seed) for seed in seeds]
        noise = torch.stack([torch.randn(trajectory.final.shape[1:], generator=g) for g in generators(own)])
        scale = sampler.scales[step].item()
        entering = (signal * trajectory.final + level * noise.to(trajectory.final)) / scale
        prediction = model.predict_noise(
            entering, trajectory.timesteps[step], conditioning, guidance, scale=scale, at_once=at_once
        )
        latents = (*(trajectory.latents or ())[:-1], entering)
        yield replace(trajectory, latents=latents), sampler.predicted(step, entering, prediction)
