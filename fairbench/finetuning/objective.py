"""What finetuning minimises on the images of one update: alignment, preserved semantics, faces.

Method and gradient know nothing of attributes; they are here and in the rooms below.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from fairbench.alignment import Targets, alignment_loss, expected_targets
from fairbench.finetuning.batches import Batch
from fairbench.finetuning.faces import face_loss, pixels_inside
from fairbench.finetuning.semantics import OriginalPictures, factors, preservation_loss
from fairbench.finetuning.settings import Settings, per_attribute
from fairbench.intervention import Faces
from fairbench.seeding import image_seed

if TYPE_CHECKING:
    from fairbench.intervention import FitContext
    from fairbench.judges.faces import Detections

UNDECIDED = 0.8
"""A judge that gives its likeliest class less is undecided; of two classes: both between .2 and .8."""


class View(NamedTuple):
    """Some pictures, where their faces are, and what the judge says of them."""

    images: Tensor
    faces: Detections
    logits: dict[str, Tensor]


@dataclass(frozen=True)
class Objective:
    r"""The loss of one update, a mean over all its images.

    .. math:: L = \frac{1}{N}\sum_i \left(L_{align,i} + \lambda\,w_i\,L_{semantics,i}
                  + \lambda_{face}\,L_{face,i}\right)

    Targets are found for each prompt's images by themselves: every prompt is to be balanced, not the mixture.
    They are found before the images are taken in portions, so portions do not change the result.

    Parameters
    ----------
    context : FitContext
    originals : OriginalPictures
    settings : Settings
    decode : callable
        Latents to images, differentiable.
    at_once : int
        Images in one portion.
    """

    context: FitContext
    originals: OriginalPictures
    settings: Settings
    decode: Callable[[Tensor], Tensor]
    at_once: int

    def __call__(self, latents: Tensor, batch: Batch) -> tuple[Tensor, dict[str, Any]]:
        """Return the gradient of the loss at N x C x h x w latents, and what is worth logging.

        Raises
        ------
        FloatingPointError
            If an image is not finite.
        """
        leaf = latents.detach().clone().requires_grad_()
        portions = torch.arange(len(leaf), device=leaf.device).split(self.at_once)
        whole = self._see(leaf) if len(portions) == 1 else None
        seen = [whole] if whole else [self._unlearnt(leaf[rows]) for rows in portions]
        judged = _detached([view.logits for view in seen])
        targets = self._targets(judged, batch)
        known = self.originals.look_up(batch.pictures, leaf.device)
        sums: dict[str, float] = {}
        for rows, view in zip(portions, seen, strict=True):
            part = {name: _rows(target, rows) for name, target in targets.items()}
            before = {name: column[rows] for name, column in known.items()}
            loss, terms = self._terms(whole or self._see(leaf[rows], view.faces), part, before)
            (loss / batch.total).backward()
            for name, value in terms.items():
                sums[name] = sums.get(name, 0.0) + value.item() / len(leaf)
        assert leaf.grad is not None  # noqa: S101 every image has a loss
        return leaf.grad, sums | self._notes(judged, targets, batch)

    def _see(self, latents: Tensor, faces: Detections | None = None) -> View:
        """Decode and judge; ``faces``: where they are in these pictures, if they were looked for before."""
        images = self.decode(latents)
        if not images.isfinite().all():
            raise FloatingPointError("the images are not finite")
        faces = faces or self.context.judge.find(images.detach())
        return View(images, faces, self.context.judge.logits(images, faces))

    @torch.no_grad()
    def _unlearnt(self, latents: Tensor) -> View:
        """See without a gradient, and let go of the pictures, which are large."""
        return self._see(latents)._replace(images=latents.new_empty(0))

    def _targets(self, judged: Mapping[str, Tensor], batch: Batch) -> dict[str, Targets]:
        """Return the expected targets of N images, found prompt by prompt; label -1 where there is none."""
        faces = judged["face"] > 0
        found = []
        for rows in torch.arange(len(faces), device=faces.device).split(batch.images_per_prompt):
            # its own draws for every prompt: the same whatever other prompts this process has
            seed = image_seed("finetuning", "1", "targets", batch.update, batch.seeds[int(rows[0])])
            probabilities = {
                name: _probabilities(judged[name][rows], faces[rows]) for name in self.context.space.names
            }
            generator = torch.Generator().manual_seed(seed)
            target = self.context.target.probabilities
            found.append(expected_targets(probabilities, target, generator=generator))
        return {name: _joined([part[name] for part in found]) for name in self.context.space.names}

    def _terms(
        self, view: View, targets: Mapping[str, Targets], known: Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of some images and its parts, all as sums over them."""
        settings, (images, found, logits) = self.settings, view
        attributes = {name: logits[name] for name in targets}
        labels = {
            name: target.label.where(target.confidence >= settings.confidence, -1)
            for name, target in targets.items()
        }
        weight = factors(labels, known, self._each("change_factor"))
        present = logits["face"] > 0
        looks = settings.looks_at_faces(self.context.space.names)
        faces = self._faces.find(images.detach(), found) if looks else None
        region = self._region(images, faces, present, labels, known)
        preserved, similarity = preservation_loss(images, known, weight, self.context.features, region)
        parts = {
            "loss_alignment": alignment_loss(attributes, targets, settings.confidence) * len(images),
            "loss_semantics": preserved.sum(),
        }
        loss = parts["loss_alignment"] + settings.image_weight * parts["loss_semantics"]
        if faces and settings.face_weight:
            parts["loss_face"] = self._face(images, faces, present, labels, known).sum()
            loss = loss + settings.face_weight * parts["loss_face"]
        parts |= {f"similarity_{name}": value.sum() for name, value in similarity.items()}
        return loss, {"loss": loss, **parts}

    def _region(
        self,
        images: Tensor,
        faces: Detections | None,
        present: Tensor,
        labels: Mapping[str, Tensor],
        known: Mapping[str, Tensor],
    ) -> Tensor | None:
        """Return what the semantics gradient of each pixel is multiplied by; None if it is 1 everywhere."""
        each = self._each("region_factor")
        if faces is None or min(each.values()) == 1:
            return None
        factor = factors(labels, known, each).view(-1, 1, 1, 1)
        boxes = faces.boxes * present[:, None]
        return torch.where(pixels_inside(boxes, known["face/box"], *images.shape[-2:]), factor, 1.0)

    def _face(
        self,
        images: Tensor,
        faces: Detections,
        present: Tensor,
        labels: Mapping[str, Tensor],
        known: Mapping[str, Tensor],
    ) -> Tensor:
        """Return the face loss of N images; balancing one attribute, 0 where an image has no target.

        With several every face counts, as in the source: their code for one is not that for several.
        """
        if len(labels) == 1:
            present = present & (next(iter(labels.values())) >= 0)
        keeps = torch.stack(
            [
                (label >= 0)
                & (label == known[f"class/{name}"])
                & (known[f"confidence/{name}"] >= self.settings.face_confidence)
                for name, label in labels.items()
            ]
        ).all(0)
        found = self._faces.features(images, faces.landmarks)
        return face_loss(found, known["face/features"], keeps, self._faces.real.to(found), present)

    @property
    def _faces(self) -> Faces:
        assert self.context.faces is not None  # noqa: S101 checked before training
        return self.context.faces

    def _each(self, setting: str) -> dict[str, float]:
        return per_attribute(setting, getattr(self.settings, setting), self.context.space.names)

    def _notes(
        self, judged: Mapping[str, Tensor], targets: Mapping[str, Targets], batch: Batch
    ) -> dict[str, float]:
        """Return what tells how the training goes: shares of images with a face, a target, a sure judge."""
        faces, wanted = judged["face"] > 0, self.context.target.probabilities
        notes = {"faces": faces.float().mean().item()}
        for name, target in targets.items():
            likeliest = judged[name].softmax(-1).amax(-1)
            prompts = torch.arange(len(faces), device=faces.device).split(batch.images_per_prompt)
            notes |= {
                f"gap_{name}": _mean_gap(judged[name], faces, prompts, wanted[name]),
                f"targeted_{name}": (target.confidence >= self.settings.confidence).float().mean().item(),
                f"confidence_{name}": likeliest[faces].mean().item(),
                f"undecided_{name}": (likeliest[faces] < UNDECIDED).float().mean().item(),
            }
        return notes


def _detached(logits: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.cat([part[name].detach() for part in logits]) for name in logits[0]}


def _rows(target: Targets, rows: Tensor) -> Targets:
    return Targets(target.q[rows], target.label[rows], target.confidence[rows])


def _joined(targets: list[Targets]) -> Targets:
    return Targets(
        torch.cat([target.q for target in targets]),
        torch.cat([target.label for target in targets]),
        torch.cat([target.confidence for target in targets]),
    )


def _probabilities(logits: Tensor, faces: Tensor) -> Tensor:
    """Return class probabilities, nan where there is no face: such an image takes no part."""
    return logits.softmax(-1).masked_fill(~faces[:, None], torch.nan)


def _mean_gap(logits: Tensor, faces: Tensor, prompts: tuple[Tensor, ...], target: tuple[float, ...]) -> float:
    """Mean over prompts of the mean ``|(f_i - t_i) - (f_j - t_j)|`` over pairs, among images with a face."""
    gaps = []
    for rows in prompts:
        seen = logits[rows][faces[rows]].argmax(-1)
        if len(seen):
            shares = (torch.bincount(seen, minlength=logits.shape[1]) / len(seen)).tolist()
            pairs = combinations(zip(shares, target, strict=True), 2)
            gaps.append(fmean(abs(one - other - (wanted - least)) for (one, wanted), (other, least) in pairs))
    return fmean(gaps) if gaps else math.nan
