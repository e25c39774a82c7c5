"""What the face loss looks with: the training judge's detector, a network, and pictures of real faces.

In the embedded world a whole picture is a face, and real ones are drawn.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from fairbench.config import RunConfig
from fairbench.features import load_features
from fairbench.images.rows import ImageSet, read_back
from fairbench.images.sources import real_faces
from fairbench.runs.instruments import of_the_family
from fairbench.storage import sha256_of

if TYPE_CHECKING:
    from torch import Tensor

    from fairbench.features import ImageFeatures
    from fairbench.finetuning.faces import DetectedFaces, Faces, WholePictures
    from fairbench.judges import Judge
    from fairbench.suites import Prompt

REAL = 512
"""Drawn faces to find the nearest one among."""


def training_faces(
    config: RunConfig,
    judge: "Judge | None",
    features: "Sequence[ImageFeatures]",
    prompts: "Sequence[Prompt]",
) -> "Faces | None":
    """Return the faces that ``config`` names, or those of the embedded world; None where there are none.

    They are told apart by ``config.face_features``, or else by the last of the training ``features``.
    """
    if judge is None or not (features and prompts):
        return None
    network = features[-1]
    if config.face_features:
        network = load_features(config.face_features).to(network.device)
    if given := real_faces(config.real_faces):
        return _detected(given, judge, network)
    return _drawn(network, prompts) if of_the_family(config.model) else None


def _detected(given: ImageSet, judge: "Judge", network: "ImageFeatures") -> "DetectedFaces":
    from fairbench.finetuning.faces import DetectedFaces

    def pictures() -> "Iterator[Tensor]":
        for _, images in read_back(given.variants[-1], Path()):
            yield images.to(judge.device)

    # "aligned" stands for how a face is cut out: what was seen otherwise must not be taken out of the cache
    sha256 = sha256_of(" ".join(["aligned", judge.sha256, network.sha256, given.sha256()]).encode())
    return DetectedFaces(*judge.detector, network, pictures, sha256)


def _drawn(network: "ImageFeatures", prompts: "Sequence[Prompt]") -> "WholePictures":
    from fairbench.finetuning.faces import WholePictures

    def pictures() -> "Tensor":
        from fairbench.portraits.renderer import PortraitsRenderer

        texts = [prompt.text for _ in range(REAL // len(prompts) + 1) for prompt in prompts]
        return PortraitsRenderer().generate(list(islice(texts, REAL)), range(REAL))

    return WholePictures(network, pictures)
