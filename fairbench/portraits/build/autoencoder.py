"""Train the autoencoder, an ordinary diffusers ``AutoencoderKL``: 64 x 64 pictures to 8 x 8 x 8 latents."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch import Tensor

from fairbench.portraits.build.data import Pictures
from fairbench.portraits.build.loop import DEVICE, Plan, batch, half_precision, train

# where eyes and mouth are drawn: small next to the background, and all that matters in a face
FACE = (slice(16, 48), slice(18, 46))
FACE_WEIGHT = 4.0
KL_WEIGHT = 1e-3
EDGE_WEIGHT = 0.5


def build_autoencoder() -> AutoencoderKL:
    """Return the untrained autoencoder, about 0.8 million parameters."""
    channels = (16, 24, 48, 64)
    return AutoencoderKL(
        sample_size=64,
        latent_channels=8,
        block_out_channels=channels,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        norm_num_groups=8,
        mid_block_add_attention=False,
    )


def train_autoencoder(pictures: Pictures, plan: Plan, refinement: Plan, directory: Path) -> AutoencoderKL:
    """Train on ``pictures``, first coarsely in large batches, then in small ones that weigh faces more.

    The loss is L1 on pixels and on edges and a small KL term. Sets the scaling factor.
    """
    torch.manual_seed(plan.seed)
    network = build_autoencoder().to(DEVICE, memory_format=torch.channels_last)
    evenly, faces = torch.ones(64, 64, device=DEVICE), torch.ones(64, 64, device=DEVICE)
    faces[FACE] = FACE_WEIGHT
    for name, stage, size, weight in (
        ("autoencoder", plan, 32, evenly),
        ("autoencoder-refinement", refinement, 16, faces / faces.mean()),
    ):
        train(name, network, partial(_loss, network, pictures, stage.seed, size, weight), stage, directory)
    sample = encode(network, pictures.pixels[:2000])
    network.register_to_config(scaling_factor=round(1 / sample.std().item(), 5))
    return network


def _loss(
    network: AutoencoderKL, pictures: Pictures, seed: int, size: int, weight: Tensor, step: int
) -> Tensor:
    index, generator = batch(len(pictures.captions), size, seed, step)
    images = pictures.images(index) * 2 - 1
    with half_precision():
        posterior = network.encode(images).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=generator).to(DEVICE)
        decoded = network.decode(posterior.mean + posterior.std * noise).sample.float()
    error = (decoded - images) * weight
    edges = error.diff(dim=2).abs().mean() + error.diff(dim=3).abs().mean()
    return error.abs().mean() + EDGE_WEIGHT * edges + KL_WEIGHT * _divergence(posterior)


def _divergence(posterior: DiagonalGaussianDistribution) -> Tensor:
    return 0.5 * (posterior.mean.square() + posterior.var - 1 - posterior.logvar).float().mean()


@torch.inference_mode()
def encode(network: AutoencoderKL, pixels: Tensor, size: int = 250) -> Tensor:
    """Return the posterior means of uint8 ``pixels`` (N x 3 x 64 x 64), unscaled, N x 8 x 8 x 8."""
    parts = []
    for part in pixels.split(size):
        with half_precision():
            mean = network.encode(_centred(part)).latent_dist.mean
        parts.append(mean.float().cpu())
    return torch.cat(parts)


@torch.inference_mode()
def reconstruct(network: AutoencoderKL, pixels: Tensor, size: int = 250) -> Tensor:
    """Return ``pixels`` (N x 3 x 64 x 64 uint8) after one pass through the autoencoder."""
    parts = []
    for part in pixels.split(size):
        with half_precision():
            decoded = network.decode(network.encode(_centred(part)).latent_dist.mean).sample.float()
        parts.append(((decoded / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8).cpu())
    return torch.cat(parts)


def _centred(pixels: Tensor) -> Tensor:
    return (pixels.float() / 127.5 - 1).contiguous(memory_format=torch.channels_last).to(DEVICE)
