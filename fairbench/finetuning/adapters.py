"""Low-rank adapters on the text encoder, their running average, and the file format that diffusers reads.

They go in for training and come out again, leaving the model as it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict

if TYPE_CHECKING:
    from fairbench.models.text_to_image import TextToImage

TARGETS = ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"]


class TextEncoderLora:
    """A trainable low-rank adapter in every attention and feed-forward layer of a text encoder."""

    def __init__(self, wrapped: Any) -> None:
        self._wrapped = wrapped
        self.parameters: dict[str, torch.nn.Parameter] = {
            name: parameter for name, parameter in wrapped.named_parameters() if parameter.requires_grad
        }

    def off(self) -> AbstractContextManager[None]:
        """Return a context in which the text encoder is the original one."""
        return self._wrapped.disable_adapter()

    def exported(self, values: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Name ``values``, one per parameter, as ``StableDiffusionPipeline.load_lora_weights`` reads them."""
        layers = get_peft_model_state_dict(self._wrapped, state_dict=dict(values))
        return {
            # "text_model" is a level that transformers 4 has and 5 has not; diffusers reads it for both
            f"text_encoder.text_model.{name.removeprefix('base_model.model.').removeprefix('text_model.')}": (
                value.detach().cpu().contiguous()
            )
            for name, value in layers.items()
        }


@contextmanager
def text_encoder_lora(model: TextToImage, rank: int, seed: int) -> Iterator[TextEncoderLora]:
    r"""Put a LoRA of the given rank into the text encoder for training; everything else is frozen.

    .. math:: W x \to W x + U D x, \qquad D \sim N(0, 1/r^2),\ U = 0

    so that training begins at the original model. The scale is 1. On leaving, the adapter is taken out
    and the model is as before. Source: arXiv 2311.07604 tunes the same layers.
    """
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=TARGETS, init_lora_weights="gaussian")
    with torch.random.fork_rng(devices=[]):  # weights are drawn on the CPU
        torch.manual_seed(seed)
        wrapped = get_peft_model(model.pipeline.text_encoder, config)
    try:
        yield TextEncoderLora(wrapped)
    finally:
        wrapped.unload()


class RunningAverage:
    r"""Exponential moving average of parameters, quick at first: the weights that are exported.

    .. math:: \bar\theta \gets d\,\bar\theta + (1-d)\,\theta,
              \qquad d = \min\left(\frac{1+t}{10+t}, d_\max\right)
    """

    def __init__(self, parameters: Mapping[str, torch.Tensor], decay: float) -> None:
        self.decay = decay
        self.values = {name: parameter.detach().clone() for name, parameter in parameters.items()}

    @torch.no_grad()
    def update(self, parameters: Mapping[str, torch.Tensor], count: int) -> None:
        """Move towards ``parameters`` after update number ``count`` (from 1)."""
        decay = min(self.decay, (1 + count) / (10 + count))
        for name, value in self.values.items():
            value.lerp_(parameters[name].detach(), 1 - decay)
