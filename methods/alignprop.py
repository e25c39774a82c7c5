"""AlignProp (arXiv 2310.03739): the exact gradient, truncated at a step drawn anew for every update.

Drawn once per update: drawing for every step by itself, as one implementation did, is no truncation.
"""

from typing import ClassVar, Literal

import torch

from fairbench.finetuning.direct import DirectFinetuning
from fairbench.finetuning.rules import GradientRule, Sampler
from fairbench.finetuning.settings import Positive, Settings

MEAN, DEVIATION, FIXED = 42 / 50, 5 / 50, 49 / 50
"""Where the authors cut their 50 steps, as shares."""


class AlignProp(DirectFinetuning):
    r"""Backpropagate through the steps from a random one on.

    .. math:: \frac{dL}{d\theta} \approx \sum_{i \ge B} a_i \left(\frac{d\epsilon_i}{d\theta}\right)^{\!T} g,
              \qquad B/S \sim N(0.84,\ 0.1^2)

    Source: arXiv 2310.03739.

    Limits: how many steps learn, and so what an update costs, changes from one to the next. SDXL is not
    supported.

    Cost: 2 U-Net rows per image and step, as the original; what an update takes is counted in
    docs/performance.md.
    """

    name: ClassVar[str] = "alignprop"

    class Config(Settings):
        """The authors' clipping; the rest as for the other methods."""

        clip: Positive | None = 1
        """The largest gradient norm that is let through unscaled; None for any."""
        truncation: Literal["gaussian", "uniform", "fixed"] = "gaussian"
        """Where to cut: about step 42 of 50, anywhere, or always at step 49."""

    config: Config

    def rule(self, sampler: Sampler, generator: torch.Generator) -> GradientRule:
        """Draw the first step that learns; from there on, all inputs are attached."""
        share = {
            "gaussian": MEAN + DEVIATION * torch.randn((), generator=generator).item(),
            "uniform": torch.rand((), generator=generator).item(),
            "fixed": FIXED,
        }[self.config.truncation]
        latest = int(sampler.onto().nonzero().max())  # with some samplers the last step moves nothing
        first = min(max(int(share * len(sampler)), 0), latest)
        return GradientRule.last(sampler, len(sampler) - first)
