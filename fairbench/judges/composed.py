"""A judge put together by a YAML file: find the face, crop it, let networks read it, take their mean vote."""

import math
from collections.abc import Sequence
from functools import cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from pydantic import ValidationError
from torch import nn

from fairbench.errors import UserError, invalid
from fairbench.judges.classifiers import CONFIG, load_classifier
from fairbench.judges.confusion import read_side_file
from fairbench.judges.description import Composition
from fairbench.judges.faces import Detections, FaceDetector, crop, insightface, squared, whole_image, yunet
from fairbench.judges.judge import Judge
from fairbench.judges.judge_file import Classifier, Faces, JudgeFile, SkinTone, WholeImage, YuNet, ZeroShot
from fairbench.judges.preparation import PREPROCESSOR
from fairbench.judges.skin_tone import SkinToneReader
from fairbench.judges.sources import check_sha256, located
from fairbench.judges.zero_shot import CONFIG as CLIP_CONFIG
from fairbench.judges.zero_shot import WEIGHTS as CLIP_WEIGHTS
from fairbench.judges.zero_shot import load_zero_shot
from fairbench.networks import WEIGHTS, identity, weights_file
from fairbench.storage import read_yaml, sha256_of

if TYPE_CHECKING:
    from torch import Tensor

_CERTAIN = 1e-6
"""Detectors score from 0 to 1; their log-odds are kept finite."""


class ComposedNetwork(nn.Module):
    """Images to logits by way of the face.

    Parameters
    ----------
    faces
        The detector.
    enlarge
        Side of the square crop, in longer sides of the box.
    readers
        Modules with ``image_size``; one that is ``tight`` sees the box as it is. Each maps crops to attribute
        -> N x K logits, and may say under "readable" how much of a face it is to it, from 0 to 1.
    """

    def __init__(self, faces: FaceDetector, enlarge: float, readers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.faces, self.enlarge, self.readers = faces, enlarge, nn.ModuleList(readers)

    def forward(self, images: "Tensor", found: Detections | None = None) -> "dict[str, Tensor]":
        r"""Return attribute -> N x K logits, and "face" -> N logits.

        Where several networks read an attribute, :math:`\ell = \log \frac1M \sum_m \mathrm{softmax}(\ell_m)`.
        ``found`` says where the faces are, if they were looked for before.
        """
        if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
            raise UserError(
                f"images must be N x 3 x H x W numbers in [0, 1], not {images.dtype} {tuple(images.shape)}"
            )
        boxes, score, _ = found or self.faces(images)

        @cache
        def cropped(tight: bool, size: int) -> "Tensor":
            return crop(images, boxes if tight else squared(boxes, self.enlarge), size)

        votes: dict[str, list[Tensor]] = {}
        for reader in self.readers:
            module: Any = reader
            read = module(cropped(module.tight, module.image_size))
            score = score * read.pop("readable", 1)
            for name, logits in read.items():
                votes.setdefault(name, []).append(logits.log_softmax(1))
        logits = {name: torch.stack(each).logsumexp(0) - math.log(len(each)) for name, each in votes.items()}
        return logits | {"face": torch.logit(score, eps=_CERTAIN)}


def load_judge_file(path: Path) -> Judge:
    """Load the judge that a YAML file describes; frozen, in evaluation mode.

    Its sha256 is that of the judge file, the detector and all files of the networks.

    Raises
    ------
    UserError
        The file has a fault, or something it names is missing, damaged, not what was pinned, or does not fit.
    """
    described = _read(path)
    detector, files = _files(described, path.parent)
    faces = _detector(described.faces, detector)
    readers, weights = zip(*map(_reader, described.networks, files), strict=True)
    network = ComposedNetwork(faces, described.faces.enlarge, readers)
    network.eval().requires_grad_(False)
    sha256 = identity(path, *detector, *chain(*files))
    confusion = read_side_file(path, sha256, described.attributes)
    return Judge(
        Composition(described.name, described.attributes, confusion), network, sha256, frozenset(weights)
    )


def identify_judge_file(path: Path) -> tuple[str, str]:
    """Return the name and the sha256 that the judge has when it is loaded, without building any network."""
    described = _read(path)
    detector, files = _files(described, path.parent)
    return described.name, identity(path, *detector, *chain(*files))


def _read(path: Path) -> JudgeFile:
    try:
        return JudgeFile.model_validate(read_yaml(path))
    except ValidationError as error:
        raise invalid(str(path), error, JudgeFile.model_fields) from None


def _files(described: JudgeFile, base: Path) -> tuple[list[Path], list[list[Path]]]:
    """Return the file of the detector, where it has one, and those of every network."""
    faces, detector = described.faces, []
    if not isinstance(faces, WholeImage):
        detector = [located(faces.source, base, [faces.file]) / faces.file]
        if not detector[0].is_file():
            raise UserError(f"{detector[0]}: there is no such file")
    return detector, [_network_files(network, base) for network in described.networks]


def _detector(faces: Faces, files: Sequence[Path]) -> FaceDetector:
    if isinstance(faces, WholeImage):
        return whole_image
    check_sha256(files[0], faces.sha256)
    if isinstance(faces, YuNet):
        return yunet(files[0], faces.threshold, faces.size)
    return insightface(files[0], faces.threshold, faces.size, faces.provider)


def _network_files(network: Classifier | ZeroShot | SkinTone, base: Path) -> list[Path]:
    """Return the files that decide what a network says, its weights first."""
    if isinstance(network, SkinTone):
        return []
    names = (CLIP_WEIGHTS, CLIP_CONFIG) if isinstance(network, ZeroShot) else (WEIGHTS, CONFIG, PREPROCESSOR)
    directory = located(network.source, base, names)
    weights = weights_file(directory, names[0])
    return [weights, *(directory / name for name in names[1:] if (directory / name).is_file())]


def _reader(network: Classifier | ZeroShot | SkinTone, files: Sequence[Path]) -> tuple[nn.Module, str]:
    """Return the reader, and what identifies its weights."""
    if isinstance(network, SkinTone):
        return SkinToneReader(), sha256_of(b"skin_tone")
    weights = files[0]
    directory = weights.parent
    check_sha256(weights, network.sha256)
    reader = (
        load_zero_shot(network, directory)
        if isinstance(network, ZeroShot)
        else load_classifier(network, directory)
    )
    return reader, sha256_of(weights)
