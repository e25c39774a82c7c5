"""Direct finetuning with the adjusted ("biased") gradient, the method of arXiv 2311.07604.

Images are sampled, judged, and told which class they should have had; that gradient is sent back into the
text encoder as if every denoising step depended on the prompt alone, and every step counts the same.
"""

from typing import ClassVar

import torch

from fairbench.finetuning.direct import DirectFinetuning
from fairbench.finetuning.rules import GradientRule, Sampler, adjusted_rule
from fairbench.finetuning.settings import AdjustedSettings


class BiasedDFT(DirectFinetuning):
    r"""Finetune the text encoder until each prompt's images follow the target; what they show is kept.

    .. math:: \frac{dL}{d\theta} \approx
              \sum_i w_i \left(\frac{\partial\epsilon_i}{\partial\theta}\right)^{\!T} g,
              \qquad g = \frac{\partial L}{\partial z_0}

    with the weights of `fairbench.finetuning.gains.step_weights`; K random steps stand for all of them.

    Source: arXiv 2311.07604.

    Limits: the gradient leaves out how the steps act on each other. One adapter fits the model it was
    trained with. SDXL is not supported.

    Cost: 2 U-Net rows per image and step, as the original; what an update takes is counted in
    docs/performance.md.
    """

    name: ClassVar[str] = "biased_dft"

    class Config(AdjustedSettings):
        """Settings; the paper's where they carry over to a small model."""

    config: Config

    def rule(self, sampler: Sampler, generator: torch.Generator) -> GradientRule:
        """Detach every input, weight the steps by ``mode``, and take a random few of them."""
        config = self.config
        return adjusted_rule(sampler, config.mode or "standardised", config.timesteps_per_update, generator)
