"""Where the face is in a picture and whose it is: what the face loss and the region weights ask for.

Boxes are half-open, left, top, right, bottom in pixels; a picture without a face has the empty box 0 0 0 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import normalize

from fairbench.attributes import FACE_THRESHOLD
from fairbench.errors import UserError
from fairbench.judges.faces import Detections, aligned, squared, whole_image

if TYPE_CHECKING:
    from fairbench.features.image_features import ImageFeatures
    from fairbench.judges.faces import FaceDetector


@dataclass(frozen=True)
class WholePictures:
    """Portraits: the whole picture is the face.

    Attributes
    ----------
    network
        What tells faces apart.
    pictures
        Makes the M x 3 x H x W pictures of real faces; called once, and only if they are asked for.
    """

    network: ImageFeatures
    pictures: Callable[[], Tensor]

    @property
    def name(self) -> str:
        """Of the network."""
        return self.network.name

    @property
    def sha256(self) -> str:
        """Of the network."""
        return self.network.sha256

    @cached_property
    def real(self) -> Tensor:
        """Return M x D features of the real pictures, of length 1."""
        with torch.no_grad():
            return normalize(self.network(self.pictures()), dim=1)

    def find(self, images: Tensor, found: Detections | None = None) -> Detections:
        """Return the whole picture, N times."""
        return whole_image(images)

    def features(self, images: Tensor, landmarks: Tensor) -> Tensor:
        """Return N x D features of the pictures, of length 1."""
        return normalize(self.network(images), dim=1)


@dataclass(frozen=True)
class DetectedFaces:
    """Pictures of anything: the face is where a detector finds it.

    Its region is the square that a judge sees; to tell it apart it is aligned by its landmarks.

    Attributes
    ----------
    detect
        Images to boxes, scores and landmarks.
    enlarge
        Side of the square, in longer sides of the detector's box.
    network
        What tells faces apart; the features of a face and of its mirror image are added, as in arXiv
        2311.07604.
    pictures
        Makes batches of N x 3 x H x W pictures of real faces; called once, and only if they are asked for.
    sha256
        Of all this.
    """

    detect: FaceDetector
    enlarge: float
    network: ImageFeatures
    pictures: Callable[[], Iterable[Tensor]]
    sha256: str

    @property
    def name(self) -> str:
        """Of the network."""
        return self.network.name

    @cached_property
    def real(self) -> Tensor:
        """Return M x D features of the largest face of every real picture that has one, of length 1.

        Raises
        ------
        UserError
            There is no face in any of them.
        """
        found = []
        with torch.no_grad():
            for images in self.pictures():
                boxes, _, landmarks = self.find(images)
                seen = boxes.any(1)
                found.append(self.features(images[seen], landmarks[seen]))
        if not sum(map(len, found)):
            raise UserError(
                "no face is found in any of the real faces: name another folder or training judge"
            )
        return torch.cat(found)

    def find(self, images: Tensor, found: Detections | None = None) -> Detections:
        """Return the largest faces, each box a square that may reach out of the picture."""
        found = found or self.detect(images)
        seen = found.scores >= FACE_THRESHOLD
        return found._replace(boxes=squared(found.boxes, self.enlarge) * seen[:, None])

    def features(self, images: Tensor, landmarks: Tensor) -> Tensor:
        """Return N x D features of the aligned faces, of length 1."""
        faces = aligned(images, landmarks, self.network.description.image_size)
        return normalize(self.network(faces) + self.network(faces.flip(3)), dim=1)


def face_loss(found: Tensor, original: Tensor, keeps: Tensor, real: Tensor, present: Tensor) -> Tensor:
    r"""Return the distance of each face to the original one or to the nearest real one; N values.

    .. math:: L_i = 1 - \cos(f_i, f_i^\ast), \qquad
              f_i^\ast = \begin{cases} f_i^{orig} & keeps_i \\ \arg\max_{r} \cos(f_i, r) & else \end{cases}

    and 0 where there is no face. All features have length 1.

    Parameters
    ----------
    found : Tensor, N x D
        Features of the faces, with their graph.
    original : Tensor, N x D
        Of the faces in the original pictures.
    keeps : Tensor of bool, shape (N,)
        Whether the original face already shows, surely enough, what the image is to show.
    real : Tensor, M x D
    present : Tensor of bool, shape (N,)
        Whether there is a face.

    Notes
    -----
    Source: arXiv 2311.07604, its face realism loss.
    """
    nearest = real[(found.detach() @ real.T).argmax(1)]
    wanted = torch.where(keeps[:, None], original, nearest)
    return (1 - (found * wanted).sum(1)).where(present, 0)


def pixels_inside(boxes: Tensor, others: Tensor, height: int, width: int) -> Tensor:
    """Return which pixels lie in both of two boxes, N x 1 x height x width; none where either is empty."""
    left, top = torch.maximum(boxes, others)[:, :2].T
    right, bottom = torch.minimum(boxes, others)[:, 2:].T
    x = torch.arange(width, device=boxes.device)
    y = torch.arange(height, device=boxes.device)
    columns = (x >= left[:, None]) & (x < right[:, None])
    rows = (y >= top[:, None]) & (y < bottom[:, None])
    return (rows[:, :, None] & columns[:, None, :]).unsqueeze(1)
