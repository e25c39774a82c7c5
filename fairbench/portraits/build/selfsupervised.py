"""Train the self-supervised features (SimCLR): two distorted views of a picture must find each other."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fairbench.portraits.build.data import Pictures
from fairbench.portraits.build.loop import DEVICE, Plan, batch, half_precision, train

BATCH = 128
TEMPERATURE = 0.2
PROJECTION = 64


def train_features(
    name: str, backbone: nn.Module, width: int, pictures: Pictures, plan: Plan, directory: Path
) -> None:
    """Train ``backbone`` (images in [-1, 1] to N x width) with NT-Xent on projected views, without labels."""
    torch.manual_seed(plan.seed)
    projection = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, PROJECTION))
    network = nn.ModuleDict({"backbone": backbone, "projection": projection}).to(DEVICE)
    backbone.to(memory_format=torch.channels_last)
    others = ~torch.eye(2 * BATCH, dtype=torch.bool, device=DEVICE)
    partner = torch.arange(2 * BATCH, device=DEVICE).roll(BATCH)

    def loss(step: int) -> Tensor:
        index, generator = batch(len(pictures.captions), BATCH, plan.seed, step)
        images = pictures.images(index)
        views = torch.cat([distorted(images, generator), distorted(images, generator)])
        with half_precision():
            z = F.normalize(projection(backbone(views * 2 - 1)).float(), dim=1)
        return F.cross_entropy((z @ z.T / TEMPERATURE).masked_fill(~others, -1e9), partner)

    train(name, network, loss, plan, directory)


def distorted(images: Tensor, generator: torch.Generator) -> Tensor:
    """Return each image zoomed, shifted, recoloured and made noisy at random; images in [0, 1]."""
    count = len(images)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return (torch.rand(count, *shape, generator=generator) * (high - low) + low).to(DEVICE)

    zoom, move = uniform(0.75, 1.05), uniform(-0.15, 0.15, 2)
    affine = torch.zeros(count, 2, 3, device=DEVICE)
    affine[:, 0, 0], affine[:, 1, 1], affine[:, :, 2] = zoom, zoom, move
    grid = F.affine_grid(affine, list(images.shape), align_corners=False)
    moved = F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
    coloured = moved * uniform(0.8, 1.2, 3, 1, 1) + uniform(-0.06, 0.06, 1, 1, 1)
    noise = torch.randn(images.shape, generator=generator).to(DEVICE) * uniform(0, 0.06, 1, 1, 1)
    return (coloured + noise).clamp(0, 1)
