"""Direct finetuning with the exact gradient of the whole sampling chain: what arXiv 2311.07604 calls naive.

It is the right gradient, and the one whose size and variance explode with the number of steps.
"""

from typing import ClassVar

import torch

from fairbench.finetuning.direct import DirectFinetuning
from fairbench.finetuning.rules import GradientRule, Sampler
from fairbench.finetuning.settings import Positive, Settings


class NaiveDFT(DirectFinetuning):
    r"""Backpropagate through all denoising steps, as they are.

    .. math:: \frac{dL}{d\theta} = \sum_i a_i \left(\frac{d\epsilon_i}{d\theta}\right)^{\!T} g,
              \qquad
              \frac{d\epsilon_i}{d\theta} = \frac{\partial\epsilon_i}{\partial\theta}
              + \frac{\partial\epsilon_i}{\partial z_i}\,\frac{dz_i}{d\theta}

    One step's graph is in memory at a time.

    Source: arXiv 2311.07604, where it is what is improved upon.

    Limits: the gradient may explode with the number of steps, and an update costs a pass back through all
    of them. SDXL is not supported.

    Cost: 2 U-Net rows per image and step, as the original; what an update takes is counted in
    docs/performance.md.
    """

    name: ClassVar[str] = "naive_dft"

    class Config(Settings):
        """Nothing is clipped unless asked for, as in the paper."""

        clip: Positive | None = None
        """The largest gradient norm that is let through unscaled; None for any."""

    config: Config

    def rule(self, sampler: Sampler, generator: torch.Generator) -> GradientRule:
        """Attach every input; the weights are the sampler's own gains."""
        return GradientRule.last(sampler, len(sampler))
