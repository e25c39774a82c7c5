"""Train the judges on rendered pictures, many of them blurred, noisy or reconstructed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fairbench.attributes import ATTRIBUTES
from fairbench.judges import Judge
from fairbench.judges.confusion import confusion_counts
from fairbench.portraits.build.data import Pictures
from fairbench.portraits.build.loop import DEVICE, Plan, batch, half_precision, train

BATCH = 128


def train_judge(judge: Judge, pictures: Pictures, reconstructed: Tensor, plan: Plan, directory: Path) -> None:
    """Train all heads at once; attributes count only where there is a face.

    ``reconstructed`` are the autoencoder's versions (uint8) of the first pictures.
    """
    judge.to(DEVICE).network.to(memory_format=torch.channels_last)

    def loss(step: int) -> Tensor:
        index, generator = batch(len(pictures.captions), BATCH, plan.seed, step)
        return judge_loss(judge, worn(pictures, reconstructed, index, generator), _labels(pictures, index))

    train(judge.name, judge.network, loss, plan, directory)


def judge_loss(judge: Judge, images: Tensor, labels: dict[str, Tensor]) -> Tensor:
    """Return the mean over heads of their cross-entropies."""
    with half_precision():
        logits = {name: values.float() for name, values in judge.logits(images).items()}
    face = labels["face"].bool()
    losses = [F.binary_cross_entropy_with_logits(logits["face"], labels["face"].float())]
    for name in judge.attributes:
        seen = face if name in ATTRIBUTES else torch.ones_like(face)
        losses.append(F.cross_entropy(logits[name][seen], labels[name][seen]))
    return torch.stack(losses).mean()


def worn(pictures: Pictures, reconstructed: Tensor, index: Tensor, generator: torch.Generator) -> Tensor:
    """Return the pictures at ``index`` in [0, 1], half of them reconstructed, with some blur and noise."""
    images = pictures.images(index)
    swap = (torch.rand(len(index), generator=generator) < 0.5) & (index < len(reconstructed))
    images[swap.to(DEVICE)] = reconstructed[index[swap]].float().to(DEVICE) / 255
    blurred = F.avg_pool2d(images, 3, stride=1, padding=1, count_include_pad=False)
    share, chosen, strength = torch.rand(3, len(index), 1, 1, 1, generator=generator).to(DEVICE)
    amount = share * (chosen < 0.4)
    noise = torch.randn(images.shape, generator=generator).to(DEVICE) * strength * 0.06
    mixed = (1 - amount) * images + amount * blurred + noise
    return mixed.clamp(0, 1).contiguous(memory_format=torch.channels_last)


def _labels(pictures: Pictures, index: Tensor) -> dict[str, Tensor]:
    return {name: values[index].to(DEVICE) for name, values in pictures.labels.items()}


@torch.inference_mode()
def accuracy(judge: Judge, pictures: Pictures) -> dict[str, float]:
    """Return the share of pictures each head reads rightly, attributes only where there is a face."""
    judgement = judge.judge(pictures.pixels.float() / 255)
    face = pictures.labels["face"].bool()
    measured = {"face": ((judgement.face > 0.5) == face).float().mean().item()}
    for name in judge.attributes:
        seen = face if name in ATTRIBUTES else torch.ones_like(face)
        right = judgement.probabilities[name].argmax(1)[seen] == pictures.labels[name][seen]
        measured[name] = right.float().mean().item()
    return {name: round(value, 4) for name, value in measured.items()}


def confusion(judge: Judge, pictures: Pictures) -> dict[str, np.ndarray]:
    """Return the counts of every demographic attribute, of pictures that have a face and where it is seen."""
    face = pictures.labels["face"].bool()
    labels = {name: pictures.labels[name].masked_fill(~face, -1) for name in ATTRIBUTES}
    return confusion_counts(judge.judge(pictures.pixels.float() / 255), labels)
