"""Five soft tokens in front of every prompt, trained with the adjusted gradient of arXiv 2311.07604.

The model itself stays as it is; the tokens load into any diffusers pipeline as a textual inversion.
"""

from typing import ClassVar, Literal

import torch

from fairbench.finetuning.direct import DirectFinetuning
from fairbench.finetuning.rules import GradientRule, Sampler, adjusted_rule
from fairbench.finetuning.settings import AdjustedSettings


class PromptPrefix(DirectFinetuning):
    r"""Learn five soft tokens that make each prompt's images follow the target.

    .. math:: \text{prompt} \to v_1 \dots v_5\,\text{prompt}, \qquad \varnothing \to \varnothing

    The vectors begin as words that the training prompts share, which change little; random ones, as in the
    paper, may name things that no prompt asks for. The gradient is that of ``biased_dft``.

    Source: arXiv 2311.07604, its second experiment.

    Limits: the tokens take five places of every prompt, and can do less than an adapter. SDXL is not
    supported.

    Cost: 2 U-Net rows per image and step, as the original; what an update takes is counted in
    docs/performance.md.
    """

    name: ClassVar[str] = "prompt_prefix"

    class Config(AdjustedSettings):
        """Those of ``biased_dft``; there is nothing else to tune."""

        tune: Literal["prefix"] = "prefix"

    config: Config

    def rule(self, sampler: Sampler, generator: torch.Generator) -> GradientRule:
        """Detach every input, weight the steps by ``mode``, and take a random few of them."""
        config = self.config
        return adjusted_rule(sampler, config.mode or "standardised", config.timesteps_per_update, generator)
