"""DRTune (ECCV 2024): a few equally spaced steps learn, with detached inputs, and sampling stops early.

The loss sees the image predicted where sampling stopped.
"""

from typing import Annotated, ClassVar

import torch
from pydantic import Field, PositiveInt

from fairbench.errors import UserError
from fairbench.finetuning.direct import DirectFinetuning
from fairbench.finetuning.rules import GradientRule, Sampler, only
from fairbench.finetuning.settings import Positive, Settings


class DRTune(DirectFinetuning):
    r"""Backpropagate directly into three spaced steps, from an image predicted before the end.

    .. math:: \frac{dL}{d\theta} \approx \sum_{i \in T} \frac{\partial \hat x_0^{(m)}}{\partial \epsilon_i}
              \left(\frac{\partial\epsilon_i}{\partial\theta}\right)^{\!T} g,
              \qquad T = \{o,\ o+d,\ o+2d\},\quad d = \lfloor (m+1)/3 \rfloor

    with the stop m among the last 40 % of the steps and the offset o below d, both random.

    Source: DRTune, ECCV 2024.

    Limits: the loss sees a predicted image, which is blurred where sampling stops early. SDXL is not
    supported.

    Cost: 2 U-Net rows per image and step, as the original; what an update takes is counted in
    docs/performance.md.
    """

    name: ClassVar[str] = "drtune"

    class Config(Settings):
        """The authors' clipping, stop and steps; the rest as for the other methods."""

        clip: Positive | None = 1
        """The largest gradient norm that is let through unscaled; None for any."""
        trained: PositiveInt = 3
        """How many steps learn in one update."""
        early: Annotated[float, Field(gt=0, le=1)] = 0.4
        """Share of the steps, counted from the last, at which sampling may stop."""

    config: Config

    def rule(self, sampler: Sampler, generator: torch.Generator) -> GradientRule:
        """Draw the stop and the steps; weights are the sampler's own gains on the predicted image."""
        count, trained = len(sampler), self.config.trained
        earliest = min(int(count * (1 - self.config.early)), count - 1)
        if trained > earliest + 1:
            raise UserError(
                f"{trained} steps are to be trained, but sampling may stop after {earliest + 1} of {count}: "
                "give at most as many, or lower early"
            )
        stop = _draw(earliest, count, generator)
        spacing = (stop + 1) // trained
        offset = _draw(0, spacing, generator)
        chosen = [offset + spacing * number for number in range(trained)]
        return GradientRule.detached(only(sampler.onto(stop), chosen), stop)


def _draw(low: int, high: int, generator: torch.Generator) -> int:
    """Return a whole number from ``low`` to below ``high``."""
    return int(torch.randint(low, high, (), generator=generator))
