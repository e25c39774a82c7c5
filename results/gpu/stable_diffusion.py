"""The networks of Stable Diffusion 1.5 with random weights: their speed is that of the real ones.

They are made where they are to run, and nothing is downloaded.
"""

from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DPMSolverMultistepScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from random_networks import LENGTH, TINY_VOCABULARY, VOCABULARY, tokenizer
from transformers import CLIPTextConfig, CLIPTextModel

BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
BLOCKS = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
FULL: dict[str, dict[str, Any]] = {
    "unet": {
        "sample_size": 64,
        "block_out_channels": (320, 640, 1280, 1280),
        "layers_per_block": 2,
        "down_block_types": (*("CrossAttnDownBlock2D",) * 3, "DownBlock2D"),
        "up_block_types": ("UpBlock2D", *("CrossAttnUpBlock2D",) * 3),
        "cross_attention_dim": 768,
        "attention_head_dim": 8,
    },
    "text_encoder": {
        "vocab_size": VOCABULARY,
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "max_position_embeddings": LENGTH,
    },
    "vae": {
        "sample_size": 512,
        "block_out_channels": (128, 256, 512, 512),
        "layers_per_block": 2,
        "latent_channels": 4,
    },
}
"""Stable Diffusion 1.5, as the config.json of its parts say."""
TINY: dict[str, dict[str, Any]] = {
    "unet": {
        "sample_size": 8,
        "block_out_channels": (8, 16),
        "layers_per_block": 1,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "cross_attention_dim": 16,
        "attention_head_dim": 2,
        "norm_num_groups": 4,
    },
    "text_encoder": {
        "vocab_size": TINY_VOCABULARY,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "max_position_embeddings": LENGTH,
    },
    "vae": {
        "sample_size": 64,
        "block_out_channels": (4, 4, 8, 8),
        "layers_per_block": 1,
        "latent_channels": 4,
        "norm_num_groups": 4,
    },
}


def stable_diffusion(device: str, tiny: bool) -> StableDiffusionPipeline:
    """Return the pipeline of Stable Diffusion 1.5, in bfloat16 on a card."""
    sizes = TINY if tiny else FULL
    words = tokenizer(sizes["text_encoder"]["vocab_size"])
    precision = torch.bfloat16 if device == "cuda" else torch.float32
    with torch.device(device):
        networks = {
            "unet": UNet2DConditionModel(**sizes["unet"]),
            "vae": AutoencoderKL(**sizes["vae"], **BLOCKS),
            "text_encoder": CLIPTextModel(
                CLIPTextConfig(
                    **sizes["text_encoder"],
                    bos_token_id=words.bos_token_id,
                    eos_token_id=words.eos_token_id,
                    pad_token_id=words.pad_token_id,
                )
            ),
        }
    pipeline = StableDiffusionPipeline(
        **{name: torch.nn.Module.to(network, precision).eval() for name, network in networks.items()},
        tokenizer=words,
        scheduler=DPMSolverMultistepScheduler(**BETAS, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
