"""DRaFT-K and DRaFT-LV (arXiv 2309.17400): the exact gradient of the last few denoising steps only.

Early steps, which decide what is in the picture, learn nothing directly.
"""

from typing import Annotated, ClassVar, Self

import torch
from pydantic import Field, PositiveInt, model_validator

from fairbench.finetuning.direct import DirectFinetuning
from fairbench.finetuning.rules import GradientRule, Sampler, only
from fairbench.finetuning.settings import Settings


class DraftK(DirectFinetuning):
    r"""Backpropagate through the last K steps, or through several fresh last steps.

    .. math:: \frac{dL}{d\theta} \approx
              \sum_{i > S-K} a_i \left(\frac{d\epsilon_i}{d\theta}\right)^{\!T} g

    The low-variance variant (K = 1) noises the final image n times to the level of the last step, denoises
    each in one, and takes the mean of their gradients:

    .. math:: x^{(j)} = \sqrt{\bar\alpha}\,z_0 + \sqrt{1-\bar\alpha}\,\eta_j, \qquad
              L\left(\hat x_0(x^{(j)})\right), \quad j = 1 \dots n

    Source: arXiv 2309.17400.

    Limits: the early steps, which decide what is in the picture, are not trained directly. SDXL is not
    supported.

    Cost: 2 U-Net rows per image and step, as the original; what an update takes is counted in
    docs/performance.md.
    """

    name: ClassVar[str] = "draft_k"

    class Config(Settings):
        """The authors' K; the rest as for the other methods."""

        last: PositiveInt = 1
        """K, the number of steps that learn."""
        noisings: Annotated[int, Field(ge=0)] = 0
        """n of the low-variance variant, whose authors take 2; 0 for the ordinary one."""

        @model_validator(mode="after")
        def _one_step_if_noised(self) -> Self:
            if self.noisings and self.last != 1:
                raise ValueError("noisings is the low-variance variant of last=1: leave out one of the two")
            return self

    config: Config

    def rule(self, sampler: Sampler, generator: torch.Generator) -> GradientRule:
        """Attach the inputs of the last steps to each other; their weights are the sampler's own gains."""
        if not self.config.noisings:
            return GradientRule.last(sampler, self.config.last)
        end = len(sampler) - 1
        return GradientRule.detached(only(sampler.onto(end), [end]), noisings=self.config.noisings)
