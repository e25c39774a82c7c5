"""Direct finetuning of a diffusion sampler: rules, gradients, what is trained and minimised, the loop."""

from fairbench.finetuning.gains import direct_path_gains

__all__ = ["direct_path_gains"]
