"""Direct finetuning of a diffusion sampler: gains, chunked gradient, adapters, preservation, update loop."""

from fairbench.finetuning.gains import direct_path_gains

__all__ = ["direct_path_gains"]
