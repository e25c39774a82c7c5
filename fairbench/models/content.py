"""What a model is, whatever it is called and wherever it lies: a hash of all that decides its pictures."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from fairbench.models.text_to_image import TextToImage


def content_sha256(model: TextToImage) -> str:
    """Return the sha256 of weights, configurations, vocabulary and sampler.

    Steps and guidance are not in it, and neither is what makes the last digits differ: device and library.
    """
    pipeline = model.pipeline
    digest = hashlib.sha256(repr(sorted(pipeline.tokenizer.get_vocab().items())).encode())
    for part in (pipeline.scheduler, pipeline.text_encoder, pipeline.unet, pipeline.vae):
        digest.update(f"{type(part).__name__} {_settings(part.config)}".encode())
    for network in (pipeline.text_encoder, pipeline.unet, pipeline.vae):
        for name, tensor in network.state_dict().items():
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _settings(config: Any) -> str:
    """Return a configuration as text, without where it came from."""
    whole = config.to_dict() if hasattr(config, "to_dict") else dict(config)
    kept = {key: value for key, value in whole.items() if not key.startswith("_")}
    return json.dumps(kept, sort_keys=True, default=str)
