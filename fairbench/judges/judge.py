"""A judge reads attributes off images: logits to learn from, probabilities to count with.

What it says is a measurement with errors of its own, so a run names its judges by their sha256.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from fairbench.errors import UserError
from fairbench.judges.faces import Detections, FaceDetector, whole_image
from fairbench.networks import Sizes, slices
from fairbench.precision import exact

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from fairbench.attributes import AttributeSpace
    from fairbench.judges.description import Composition, Counts, JudgeDescription


@dataclass(frozen=True)
class Judgement:
    """What one judge says about N images.

    Parameters
    ----------
    probabilities
        Attribute -> N x K, each row summing to 1.
    face
        N probabilities that there is a face.
    """

    probabilities: "dict[str, Tensor]"
    face: "Tensor"


@dataclass(frozen=True, eq=False)
class Judge:
    """A network with names for its outputs.

    Parameters
    ----------
    description
        What ``judge.json`` or the judge file says.
    network
        From N x 3 x H x W images to attribute -> N x K logits and "face" -> N logits; frozen and in
        evaluation mode where the judge was loaded.
    sha256
        Of description and weights together; empty for a judge that is not on disk.
    weights
        The sha256 of each file of weights that reads attributes, so that a renamed copy is still known.
    """

    description: "JudgeDescription | Composition"
    network: "nn.Module"
    sha256: str = ""
    weights: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """The name that results carry."""
        return self.description.name

    @property
    def attributes(self) -> dict[str, tuple[str, ...]]:
        """Attribute -> its labels, in the order of the outputs."""
        return self.description.attributes

    @property
    def confusion(self) -> "dict[str, Counts]":
        """Attribute -> K x K counts on labelled images, row = truth; only what was measured."""
        return self.description.confusion

    @property
    def device(self) -> "torch.device":
        """Where the network is."""
        return next(chain(self.network.parameters(), self.network.buffers())).device

    @property
    def detector(self) -> "tuple[FaceDetector, float]":
        """How it finds faces, and the side of its crop in longer sides of the box.

        One that is no judge file looks at the whole image.
        """
        return getattr(self.network, "faces", whole_image), getattr(self.network, "enlarge", 1.0)

    @property
    def image_size(self) -> int | None:
        """The size at which the network looks at images; None where it looks at faces that it cuts out."""
        return getattr(self.description, "image_size", None)

    def to(self, device: "torch.device | str") -> "Judge":
        """Move the network to ``device`` and return the judge."""
        self.network.to(device)
        return self

    def find(self, images: "Tensor") -> Detections:
        """Return where its detector sees the face of each image, for `logits`, `judge` and the face loss."""
        return self.detector[0](images.to(self.device))

    def logits(self, images: "Tensor", found: Detections | None = None) -> "dict[str, Tensor]":
        """Return attribute -> N x K logits, and "face" -> N logits; gradients reach the images.

        Parameters
        ----------
        images
            N x 3 x H x W in [0, 1]; scaled down or up to the size the judge was trained with.
        found
            What `find` says of these images, where it was asked before: finding faces is dear.

        Raises
        ------
        UserError
            The images have another shape, or an output is not finite.
        """
        looks = found is not None and self.detector[0] is not whole_image
        inputs = (images.to(self.device), found) if looks else (images.to(self.device),)
        logits: dict[str, Tensor] = self.network(*inputs)
        for name, values in logits.items():
            if not values.isfinite().all():
                raise UserError(
                    f"judge {self.name}: its {name} output is not finite; "
                    "check that the images are, or use another judge"
                )
        return logits

    def judge(self, images: "Tensor", batch_size: int = 256, found: Detections | None = None) -> Judgement:
        """Return softmax probabilities per attribute and the sigmoid of the face output, without gradients.

        Parameters
        ----------
        images
            N x 3 x H x W in [0, 1]; N may be 0.
        batch_size
            How many images the network sees at once.
        found
            As in `logits`.

        Raises
        ------
        UserError
            As `logits`.
        """
        import torch

        with torch.inference_mode(), exact():
            parts = [
                self.logits(images[rows], None if found is None else found.of(rows))
                for rows in slices(len(images), batch_size)
            ]
        # Joined outside inference mode: the result may then enter a computation that has gradients.
        logits = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        face = logits.pop("face").sigmoid()
        return Judgement({name: values.softmax(1) for name, values in logits.items()}, face)


def judge_all(judges: "Iterable[Judge]", images: "Tensor") -> "Iterator[tuple[Judge, Judgement]]":
    """Yield every judge with its judgement of the same images, without gradients.

    Faces are found once for all judges with the same detector, and images scaled once for each size.
    """
    sizes, found = Sizes(images), dict[FaceDetector, Detections]()
    for judge in judges:
        detector = judge.detector[0]
        if detector not in found:
            found[detector] = judge.find(images)
        yield judge, judge.judge(sizes.at(judge.image_size), found=found[detector])


def check_covers(judge: Judge, space: "AttributeSpace") -> None:
    """Raise a ``UserError`` unless the judge has every attribute of ``space``, with the same labels."""
    for name, labels in space.classes.items():
        if name not in judge.attributes:
            raise UserError(
                f"judge {judge.name} does not read {name}; it reads {', '.join(judge.attributes)}: "
                f"use another judge, or leave {name} out of the attributes"
            )
        if judge.attributes[name] != labels:
            raise UserError(
                f"judge {judge.name} reads {name} as {', '.join(judge.attributes[name])}, "
                f"not as {', '.join(labels)}: use a judge with these labels"
            )


def refuse_training_judge(evaluation: Iterable[Judge], training: Judge) -> None:
    """Raise a ``UserError`` where a network a method learns from would also evaluate it, under any name."""
    for judge in evaluation:
        if judge.sha256 == training.sha256 or judge.weights & training.weights:
            raise UserError(
                f"judge {judge.name} trains the method, so it cannot evaluate it; "
                "name another evaluation judge"
            )
