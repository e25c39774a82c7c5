"""The distributional alignment loss: every image is pulled to the class that it is expected to take.

Images whose expected target is not confident enough, and those without a face, are left alone.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from fairbench.alignment.targets import Targets


def alignment_loss(
    logits: Mapping[str, Tensor], targets: Mapping[str, Targets], threshold: float = 0.8
) -> Tensor:
    """L = sum over attributes of ``(1/N) sum_i [c_i >= threshold] CE(logits_i, y_i)``, in nats.

    Parameters
    ----------
    logits
        Attribute -> N x K logits of the judge, differentiable.
    targets
        Attribute -> what :func:`expected_targets` says of the same N images.
    threshold
        The smallest confidence c_i with which an image is given its label y_i.

    Returns
    -------
    A scalar. N counts all images, also those left alone; when all are, the loss is zero and its gradient too.

    References
    ----------
    "Finetuning Text-to-Image Diffusion Models for Fairness", arXiv 2311.07604, the loss L_align.

    Examples
    --------
    Even logits, and two images of which one is sure enough of its class: half of ``log 2``.

    >>> sure = Targets(q=torch.eye(2), label=torch.tensor([0, 1]), confidence=torch.tensor([0.9, 0.7]))
    >>> round(float(alignment_loss({"gender": torch.zeros(2, 2)}, {"gender": sure})), 3)
    0.347
    """
    return torch.stack([_one(logits[name].float(), targets[name], threshold) for name in targets]).sum()


def _one(logits: Tensor, targets: Targets, threshold: float) -> Tensor:
    chosen = (targets.confidence >= threshold) & (targets.label >= 0)
    # Chosen rows only, not weights of zero: zero times the nan of an image without a face would still be nan.
    return functional.cross_entropy(logits[chosen], targets.label[chosen], reduction="sum") / len(logits)
