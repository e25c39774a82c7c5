"""Train the denoising U-Net on latents, conditioned on the frozen text encoder, and assemble the pipeline."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import (
    AutoencoderKL,
    DPMSolverMultistepScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from fairbench.portraits.build.contrastive import tokenize
from fairbench.portraits.build.data import Pictures
from fairbench.portraits.build.loop import DEVICE, Plan, batch, train

BATCH = 128
DROPPED_CAPTIONS = 0.1
SCHEDULE = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
}


def build_unet(text_width: int) -> UNet2DConditionModel:
    """Return the untrained U-Net, about 4.4 million parameters, with cross-attention at both levels."""
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=8,
        out_channels=8,
        layers_per_block=1,
        block_out_channels=(64, 128),
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=text_width,
        attention_head_dim=4,
        norm_num_groups=16,
    )


def scheduler() -> DPMSolverMultistepScheduler:
    """Return the sampler of the shipped pipeline: DPM-Solver++ 2M on Stable Diffusion's noise schedule."""
    return DPMSolverMultistepScheduler(**SCHEDULE)


def train_unet(
    latents: Tensor,
    pictures: Pictures,
    tokenizer: CLIPTokenizer,
    text_encoder: CLIPTextModel,
    plan: Plan,
    directory: Path,
) -> UNet2DConditionModel:
    """Train on scaled ``latents`` (N x 8 x 8 x 8) to predict noise; a tenth of the captions is dropped."""
    torch.manual_seed(plan.seed)
    network = build_unet(text_encoder.config.hidden_size).to(DEVICE, memory_format=torch.channels_last)
    text_encoder.to(DEVICE).requires_grad_(False)
    tokens = tokenize(tokenizer, pictures.captions)
    empty = tokenize(tokenizer, [""])
    noising = scheduler().alphas_cumprod

    def loss(step: int) -> Tensor:
        index, generator = batch(len(latents), BATCH, plan.seed, step)
        dropped = torch.rand(BATCH, 1, generator=generator) < DROPPED_CAPTIONS
        with torch.no_grad():
            conditioning = text_encoder(
                torch.where(dropped, empty, tokens[index]).to(DEVICE)
            ).last_hidden_state
        clean = latents[index].to(DEVICE)
        noise = torch.randn(clean.shape, generator=generator).to(DEVICE)
        timesteps = torch.randint(len(noising), (BATCH,), generator=generator)
        signal = noising[timesteps].view(-1, 1, 1, 1).to(DEVICE)
        noisy = (signal.sqrt() * clean + (1 - signal).sqrt() * noise).contiguous(
            memory_format=torch.channels_last
        )
        return F.mse_loss(network(noisy, timesteps.to(DEVICE), conditioning).sample, noise)

    train("unet", network, loss, plan, directory)
    return network


def assemble(
    autoencoder: AutoencoderKL,
    text_encoder: CLIPTextModel,
    tokenizer: CLIPTokenizer,
    unet: UNet2DConditionModel,
) -> StableDiffusionPipeline:
    """Return an ordinary Stable Diffusion pipeline made of the four parts."""
    return StableDiffusionPipeline(
        vae=autoencoder,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
