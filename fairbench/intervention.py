"""What a method is, what it is given, and what it hands back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from fairbench.draws import Draw, DrawClass
from fairbench.storage import sha256_of

if TYPE_CHECKING:
    from torch import Tensor

    from fairbench.attributes import AttributeSpace, TargetDistribution
    from fairbench.features.image_features import ImageFeatures
    from fairbench.judges.faces import Detections
    from fairbench.judges.judge import Judge
    from fairbench.models.hooks import Hooks
    from fairbench.models.text_to_image import TextToImage
    from fairbench.suites import Prompt


INTERFACE = ("name", "draw_class", "Config", "fit", "apply")
"""The parts that a method must have; the others have the defaults of `OptionalParts`."""


class Method(Protocol):
    """How to debias: what is learnt, and how it is applied.

    Parameters
    ----------
    config
        Options, of the method's own class ``Config``, whose ``updates`` is the default of ``--updates``.
    """

    name: ClassVar[str]
    Config: ClassVar[type[Any]]

    def __init__(self, config: Any) -> None: ...

    @property
    def draw_class(self) -> DrawClass:
        """Who chooses the attribute of an image."""

    def fit(self, context: FitContext) -> Intervention:
        """Learn; a method that trains goes on from what lies in ``context.directory``."""

    def apply(
        self, intervention: Intervention, model: TextToImage, draw: Draw
    ) -> AbstractContextManager[Hooks]:
        """Make the model do what was learnt, as long as the context is open; ``draw`` gives the classes."""


def lacking(method: Any) -> list[str]:
    """Return the parts that a method must have and this class has not."""
    return [part for part in INTERFACE if not hasattr(method, part)]


class OptionalParts:
    """What a method may have besides, and what holds where it has not; see `part`."""

    supports: ClassVar[Sequence[str] | None] = None
    """The only attributes that it can balance; None for any."""
    several_processes: ClassVar[bool] = False
    """Whether its `fit` is called in every process that ``accelerate launch`` started."""
    quick: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    """Options with which it fits in seconds."""
    neutral: ClassVar[Mapping[str, Any] | None] = None
    """Options with which it changes nothing; None where there are none."""

    def check(self, model: TextToImage) -> None:
        """Raise a ``UserError`` where the model is none for it."""

    def check_task(
        self, model: TextToImage, space: AttributeSpace, target: TargetDistribution, prompts: list[str]
    ) -> None:
        """Raise a ``UserError`` where these attributes, target or prompts are none for it."""

    def check_fit(self, context: FitContext) -> None:
        """Raise a ``UserError`` where it cannot learn from what it would be given."""


def part(method: Any, name: str) -> Any:
    """Return a part that a method, or its class, may leave out: its own, else that of `OptionalParts`."""
    return getattr(method, name, getattr(OptionalParts(), name))


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
