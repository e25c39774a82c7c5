"""Keeping what a picture shows: distance of its features to those of the original model's picture.

The original pictures depend on nothing that is trained, so each (prompt, seed) is made and seen only once,
by whichever run comes first.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from fairbench.features.image_features import cosine, seen_by
from fairbench.finetuning.cache import Cache
from fairbench.storage import sha256_of

if TYPE_CHECKING:
    from fairbench.features.image_features import ImageFeatures
    from fairbench.intervention import Faces, FitContext

VERSION = 3
"""Of the columns that are kept."""

Picture = tuple[str, int]
"""A prompt and a seed."""


class OriginalPictures:
    """What a judge and some feature networks see in the original model's pictures; each is made once.

    The new pictures of one prompt are made and kept together, apart from those of other prompts: so what is
    seen does not depend, not even in its last digit, on what the cache already holds.

    Parameters
    ----------
    generate : callable
        Prompts and seeds to images N x 3 x H x W of the original model.
    context : FitContext
        Its judge and feature networks look at them.
    made_with : mapping
        All that the pictures depend on besides prompt and seed.
    faces : Faces, optional
        Looks at the faces, too.
    """

    def __init__(
        self,
        generate: Callable[[list[str], list[int]], torch.Tensor],
        context: FitContext,
        made_with: Mapping[str, Any],
        faces: Faces | None = None,
    ) -> None:
        self._generate, self._context, self._faces = generate, context, faces
        networks: list[Any] = [context.judge, *context.features, *([faces] if faces else [])]
        self._key = {
            "version": VERSION,
            "torch": torch.__version__,
            "networks": [[network.name, network.sha256] for network in networks],
            "faces": faces is not None,
            **made_with,
        }
        known = all(network.sha256 for network in networks)  # one that is not on disk has no hash
        self._cache = Cache("originals") if known else None
        self._rows: dict[Picture, int] = {}
        self._table: dict[str, torch.Tensor] = {}

    def look_up(self, pictures: Sequence[Picture], device: torch.device) -> dict[str, torch.Tensor]:
        """Return what is known of N pictures, after making those never seen before.

        ``features/<network>`` : N x D; ``class/<attribute>`` : N class indices, -1 where there is no face;
        ``confidence/<attribute>`` : N probabilities of that class. With ``faces`` also ``face/box`` : N x 4
        and ``face/features`` : N x D.
        """
        new: dict[str, set[int]] = {}
        for text, seed in pictures:
            if (text, seed) not in self._rows:
                new.setdefault(text, set()).add(seed)
        for text, seeds in new.items():
            self._add(text, sorted(seeds))
        rows = torch.tensor([self._rows[picture] for picture in pictures])
        return {name: column[rows].to(device) for name, column in self._table.items()}

    def _add(self, text: str, seeds: list[int]) -> None:
        """Enter what the cache, or else a look at new pictures, tells of one prompt."""
        whole = self._key | {"text": text, "seeds": seeds}
        key = sha256_of(json.dumps(whole, sort_keys=True).encode())
        seen = self._cache.get(key) if self._cache else None
        if seen is None:
            seen = self._see(text, seeds)
            if self._cache:
                self._cache.put(key, seen)
        for name, column in seen.items():
            self._table[name] = torch.cat([self._table[name], column]) if name in self._table else column
        self._rows.update({(text, seed): len(self._rows) + new for new, seed in enumerate(seeds)})

    @torch.no_grad()
    def _see(self, text: str, seeds: list[int]) -> dict[str, torch.Tensor]:
        images = self._generate([text] * len(seeds), seeds)
        found = self._context.judge.find(images)
        logits = self._context.judge.logits(images, found)
        face = logits.pop("face") > 0
        seen = {f"features/{net.name}": value for net, value in seen_by(self._context.features, images)}
        for name, values in logits.items():  # also what this run does not balance: another one may
            confidence, shown = values.softmax(-1).max(-1)
            seen[f"class/{name}"] = torch.where(face, shown, -1)
            seen[f"confidence/{name}"] = confidence
        if self._faces:
            images = images.to(face.device)
            faces = self._faces.find(images, found)
            seen["face/box"] = faces.boxes * face[:, None]
            seen["face/features"] = self._faces.features(images, faces.landmarks)
        return {name: column.cpu() for name, column in seen.items()}


def factors(
    labels: Mapping[str, torch.Tensor], originals: Mapping[str, torch.Tensor], each: Mapping[str, float]
) -> torch.Tensor:
    r"""Return the factor of each of N images: the smallest of those attributes that must change, else 1.

    .. math:: w_i = \min_{a:\ y_i^a \neq class(x_i^{orig})} c_a

    An image without a target counts as one that must change, whether it has a face or not. The code of arXiv
    2311.07604 gives 1 to one without a face in experiments 1, 2 and 6, here it is :math:`c_a`: a fifth in 1
    and 2, three fifths in 6.

    Parameters
    ----------
    labels : mapping
        Attribute to N target classes, -1 for none.
    originals : mapping
        From `OriginalPictures.look_up`.
    each : mapping
        Attribute to :math:`c_a`.
    """
    kept = {name: (label >= 0) & (label == originals[f"class/{name}"]) for name, label in labels.items()}
    return torch.stack([torch.where(kept[name], 1.0, each[name]) for name in labels]).amin(0)


def preservation_loss(
    images: torch.Tensor,
    originals: Mapping[str, torch.Tensor],
    weight: torch.Tensor,
    features: Sequence[ImageFeatures],
    region: torch.Tensor | None = None,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    r"""Return the weighted distance of each image to its original picture, and the similarity by network.

    .. math:: w_i \sum_f \left(1 - \cos(f(x_i), f(x_i^{orig}))\right)

    Parameters
    ----------
    images : Tensor, N x 3 x H x W in [0, 1]
        The graph goes through them.
    originals : mapping
        From `OriginalPictures.look_up`.
    weight : Tensor, shape (N,)
        See `factors`.
    features : sequence of ImageFeatures
    region : Tensor, N x 1 x H x W, optional
        What the gradient of each pixel is multiplied by; the loss itself does not notice.

    Notes
    -----
    Source: arXiv 2311.07604, its image semantics preserving loss.
    """
    if region is not None:
        images = images.detach() + region * (images - images.detach())
    similarity = {
        network.name: cosine(value, originals[f"features/{network.name}"])
        for network, value in seen_by(features, images)
    }
    distance = sum((1 - value for value in similarity.values()), start=images.new_zeros(len(images)))
    return weight * distance, {name: value.detach() for name, value in similarity.items()}
