"""ReFL, of ImageReward: one random late step learns, from the image predicted there.

Nothing is sampled beyond that step.
"""

from typing import Annotated, ClassVar

import torch
from pydantic import Field

from fairbench.finetuning.direct import DirectFinetuning
from fairbench.finetuning.rules import GradientRule, Sampler, only
from fairbench.finetuning.settings import Positive, Settings


class ReFL(DirectFinetuning):
    r"""Backpropagate into one late step only.

    .. math:: \frac{dL}{d\theta} \approx -\frac{\sqrt{1-\bar\alpha_k}}{\sqrt{\bar\alpha_k}}
              \left(\frac{\partial\epsilon_k}{\partial\theta}\right)^{\!T}
              \frac{\partial L}{\partial \hat x_0^{(k)}},
              \qquad k \sim U\{\lfloor 3S/4 \rfloor \dots S-1\}

    Its authors train without classifier-free guidance: ``guidance=1``.

    Source: ReFL, of ImageReward.

    Limits: the loss sees the image predicted at one step, and the early steps are never trained. SDXL is
    not supported.

    Cost: 2 U-Net rows per image and step, as the original; what an update takes is counted in
    docs/performance.md.
    """

    name: ClassVar[str] = "refl"

    class Config(Settings):
        """The authors' clipping and steps; the rest as for the other methods."""

        clip: Positive | None = 1
        """The largest gradient norm that is let through unscaled; None for any."""
        late: Annotated[float, Field(gt=0, le=1)] = 0.25
        """Share of the steps, counted from the last, of which one is drawn."""

    config: Config

    def rule(self, sampler: Sampler, generator: torch.Generator) -> GradientRule:
        """Draw the step; sampling stops there."""
        count = len(sampler)
        earliest = min(int(count * (1 - self.config.late)), count - 1)
        stop = int(torch.randint(earliest, count, (), generator=generator))
        return GradientRule.detached(only(sampler.onto(stop), [stop]), stop)
