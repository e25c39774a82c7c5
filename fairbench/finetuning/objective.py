"""What finetuning minimises on the images of one update: distributional alignment and semantics preservation.

Method and gradient know nothing of attributes; they are here and in the rooms below.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean
from typing import TYPE_CHECKING, Any

import torch

from fairbench.alignment import alignment_loss, expected_targets
from fairbench.finetuning.batches import Batch
from fairbench.finetuning.semantics import OriginalPictures, preservation_loss

if TYPE_CHECKING:
    from fairbench.intervention import FitContext


@dataclass(frozen=True)
class Objective:
    r"""The loss of one update, a mean over its prompts.

    .. math:: L = L_{align} + \lambda\,L_{semantics}

    Targets are found for each prompt's images by themselves: every prompt is to be balanced, not the mixture.

    Parameters
    ----------
    context : FitContext
    originals : OriginalPictures
    confidence : float
        An expected target below it is no target.
    image_weight, change_factor : float
        :math:`\lambda`, and the share of it for an image that must change; see `preservation_loss`.
    """

    context: FitContext
    originals: OriginalPictures
    confidence: float
    image_weight: float
    change_factor: float

    def __call__(self, images: torch.Tensor, batch: Batch) -> tuple[torch.Tensor, dict[str, Any]]:
        """Return the loss of N x 3 x H x W images, with their graph, and what is worth logging."""
        if not images.isfinite().all():
            raise FloatingPointError("the images are not finite")
        names = self.context.space.names
        judged = self.context.judge.logits(images)
        faces = judged["face"] > 0
        prompts = torch.arange(len(images), device=images.device).split(batch.images_per_prompt)
        alignment = images.new_zeros(())
        labels = {name: torch.full((len(images),), -1, device=images.device) for name in names}
        for rows in prompts:
            logits = {name: judged[name][rows] for name in names}
            targets = expected_targets(
                {name: _probabilities(values, faces[rows]) for name, values in logits.items()},
                self.context.target.probabilities,
                generator=batch.generator,
            )
            alignment = alignment + alignment_loss(logits, targets, self.confidence) / len(prompts)
            for name, target in targets.items():
                labels[name][rows] = torch.where(target.confidence >= self.confidence, target.label, -1)
        known = self.originals.look_up(list(zip(batch.texts, batch.seeds, strict=True)), images.device)
        semantics, similarity = preservation_loss(
            images, known, labels, self.context.features, self.change_factor
        )
        loss = alignment + self.image_weight * semantics
        row = {"loss": loss, "loss_alignment": alignment, "loss_semantics": semantics}
        row |= {f"similarity_{name}": value.mean() for name, value in similarity.items()}
        row["faces"] = faces.float().mean()
        gaps = {f"gap_{name}": _mean_gap(judged[name], faces, prompts) for name in names}
        return loss, {name: value.item() for name, value in row.items()} | gaps


def _probabilities(logits: torch.Tensor, faces: torch.Tensor) -> torch.Tensor:
    """Return class probabilities, nan where there is no face: such an image takes no part."""
    return logits.detach().softmax(-1).masked_fill(~faces[:, None], torch.nan)


def _mean_gap(logits: torch.Tensor, faces: torch.Tensor, prompts: tuple[torch.Tensor, ...]) -> float:
    """Mean over prompts of the mean ``|freq_i - freq_j|`` over pairs of classes, among images with a face."""
    gaps = []
    for rows in prompts:
        seen = logits[rows][faces[rows]].argmax(-1)
        if len(seen):
            shares = (torch.bincount(seen, minlength=logits.shape[1]) / len(seen)).tolist()
            gaps.append(fmean(abs(one - other) for one, other in combinations(shares, 2)))
    return fmean(gaps) if gaps else math.nan
