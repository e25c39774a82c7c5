"""A random Stable Diffusion pipeline, built and sampled in a second, saved like a real one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

MERGES = [("t", "h"), ("th", "e</w>"), ("f", "a"), ("fa", "c"), ("fac", "e</w>"), ("o", "f</w>")]
START, END = "<|startoftext|>", "<|endoftext|>"
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
SCHEDULERS = {
    "ddim": lambda: DDIMScheduler(**BETAS, clip_sample=False, set_alpha_to_one=False, steps_offset=1),
    "dpm": lambda: DPMSolverMultistepScheduler(**BETAS, steps_offset=1),
}


def tiny_tokenizer(length: int = 16) -> CLIPTokenizer:
    """Byte-level BPE that knows all bytes and three whole words; at most ``length`` tokens."""
    letters = sorted(ByteLevel.alphabet())
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), *map("".join, MERGES), START, END]
    return CLIPTokenizer(
        vocab={token: index for index, token in enumerate(tokens)},
        merges=MERGES,
        unk_token=END,
        bos_token=START,
        eos_token=END,
        pad_token=END,
        model_max_length=length,
    )


def tiny_pipeline(scheduler: str = "ddim", seed: int = 0, length: int = 16) -> StableDiffusionPipeline:
    """64 x 64 pictures from 4 x 8 x 8 latents, 0.2 million random parameters, the same for the same seed."""
    tokenizer = tiny_tokenizer(length)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        text_encoder = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(tokenizer),
                hidden_size=16,
                intermediate_size=32,
                num_hidden_layers=2,
                num_attention_heads=2,
                max_position_embeddings=length,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        )
        unet = UNet2DConditionModel(
            sample_size=8,
            in_channels=4,
            out_channels=4,
            block_out_channels=(8, 16),
            layers_per_block=1,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            cross_attention_dim=16,
            attention_head_dim=2,
            norm_num_groups=4,
        )
        vae = AutoencoderKL(
            sample_size=64,
            latent_channels=4,
            block_out_channels=(4, 4, 8, 8),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=1,
            norm_num_groups=4,
            mid_block_add_attention=False,
        )
    for name, weight in text_encoder.named_parameters():  # the usual 0.02 makes all prompts look alike
        if weight.ndim == 2:
            weight.data.mul_(5 if "embedding" not in name else 25)
    return StableDiffusionPipeline(
        text_encoder=text_encoder.eval(),
        tokenizer=tokenizer,
        unet=unet.eval(),
        vae=vae.eval(),
        scheduler=SCHEDULERS[scheduler](),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def save_tiny(directory: Path, scheduler: str = "ddim", seed: int = 0, **defaults: Any) -> Path:
    """Save `tiny_pipeline` as safetensors, with ``fairbench.json`` if sampling ``defaults`` are given."""
    tiny_pipeline(scheduler, seed).save_pretrained(directory, safe_serialization=True)
    if defaults:
        (directory / "fairbench.json").write_text(json.dumps(defaults))
    return directory
