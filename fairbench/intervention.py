"""What a method is given, and what it hands back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from fairbench.draws import DrawClass
from fairbench.storage import sha256_of

if TYPE_CHECKING:
    from torch import Tensor

    from fairbench.attributes import AttributeSpace, TargetDistribution
    from fairbench.features.image_features import ImageFeatures
    from fairbench.judges.faces import Detections
    from fairbench.judges.judge import Judge
    from fairbench.models.text_to_image import TextToImage
    from fairbench.suites import Prompt


class Faces(Protocol):
    """A face detector, a face-embedding network and a bank of real faces."""

    @property
    def name(self) -> str:
        """The name that results carry."""

    @property
    def sha256(self) -> str:
        """Of all that decides what is found and embedded."""

    @property
    def real(self) -> Tensor:
        """M x D features of real faces, of length 1."""

    def find(self, images: Tensor, found: Detections | None = None) -> Detections:
        """Return the largest face of each picture; its box is what counts as its region.

        ``found`` is what the training judge's detector has found in them, if it was asked before.
        """

    def features(self, images: Tensor, landmarks: Tensor) -> Tensor:
        """Return N x D features of the faces with these landmarks, of length 1, differentiably."""


@dataclass(frozen=True)
class FitContext:
    """All that a method may use to learn; ``directory`` is where it keeps what it needs to go on later.

    ``log`` takes a row per update; true asks the method to stop there and return what it has.
    """

    model: TextToImage
    prompts: list[Prompt]
    space: AttributeSpace
    target: TargetDistribution
    judge: Judge
    features: list[ImageFeatures]
    updates: int
    seed: int
    directory: Path
    suite: str
    suite_version: str
    log: Callable[[dict[str, Any]], bool | None]
    faces: Faces | None = None

    def description(self) -> dict[str, Any]:
        """Name all that decides what is learnt, apart from the method's own settings."""
        return {
            "model": self.model.name,
            "suite": f"{self.suite} {self.suite_version}",
            "prompts": sha256_of("\n".join(prompt.text for prompt in self.prompts).encode()),
            "attributes": list(self.space.names),
            "target": {name: list(values) for name, values in self.target.probabilities.items()},
            "judge": {self.judge.name: self.judge.sha256},
            "features": {network.name: network.sha256 for network in self.features},
            "faces": {self.faces.name: self.faces.sha256} if self.faces else None,
            "seed": self.seed,
        }


@dataclass(frozen=True)
class Intervention:
    """What a method learnt: weights and settings, enough to apply it to the same model again."""

    method: str
    draw_class: DrawClass
    tensors: dict[str, Tensor] = field(default_factory=dict)
    """LoRA weights, named as ``load_lora_weights`` reads them; ``unet.<parameter>`` -> what takes its place;
    or anything else."""
    settings: dict[str, Any] = field(default_factory=dict)
    embeddings: dict[str, Tensor] = field(default_factory=dict)
    """Token to its n x D soft tokens, as ``load_textual_inversion`` reads them."""
