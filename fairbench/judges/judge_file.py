"""What a judge file (YAML) says: how faces are found, and which networks read which attribute off them."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from fairbench.attributes import KNOWN, SCALES
from fairbench.errors import unknown
from fairbench.judges.description import Attribute, Label, Name
from fairbench.judges.faces import Provider


def _some(items: tuple[Any, ...]) -> tuple[Any, ...]:
    """Refuse none; pydantic's own ``min_length`` would also complain beside every faulty item."""
    if not items:
        raise ValueError("name at least one")
    return items


def _canonical(readings: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Bring the classes of a known attribute into its order; refuse any others."""
    for name, classes in readings.items():
        for label in classes:
            if name in KNOWN and label not in KNOWN[name]:
                raise ValueError(str(unknown(f"class of {name}", label, KNOWN[name])))
        missing = [label for label in KNOWN.get(name, ()) if label not in classes]
        if missing:
            raise ValueError(f"{name} lacks {', '.join(missing)}")
    return {
        name: {label: classes[label] for label in KNOWN.get(name, classes)}
        for name, classes in readings.items()
    }


Text = Annotated[str, StringConstraints(strict=True, min_length=1)]
Texts = Annotated[
    tuple[Text, ...],
    BeforeValidator(lambda value: value if isinstance(value, list | tuple) else [value]),
    AfterValidator(_some),
]
Readings = Annotated[
    dict[Attribute, Annotated[dict[Label, Texts], Field(min_length=2)]],
    Field(min_length=1),
    AfterValidator(_canonical),
]
Sha256 = Annotated[str, StringConstraints(strict=True, pattern=r"^[0-9a-f]{64}$")]
Onnx = Annotated[
    str, StringConstraints(strict=True, pattern=r"^[A-Za-z0-9_][\w.-]*(/[A-Za-z0-9_][\w.-]*)*\.onnx$")
]
Triple = tuple[float, float, float]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class WholeImage(_Strict):
    """Every image is a face: for images that are face crops already."""

    kind: Literal["whole_image"] = "whole_image"
    enlarge: Literal[1] = 1


class _Detector(_Strict):
    """A face detector in an ONNX file; a score below ``threshold`` is no face.

    ``source`` is the folder of the file, or ``org/name@commit`` on the Hub. The crop is a square of
    ``enlarge`` times the longer side of the box (1.5 in arXiv 2311.07604).
    """

    file: Onnx
    sha256: Sha256
    source: Text = "."
    # an image counts as a face from one half on, so a lower threshold would find faces that never count
    threshold: Annotated[float, Field(ge=0.5, le=1)] | None = None
    enlarge: Annotated[float, Field(ge=1, le=4)] = 1.5


class YuNet(_Detector):
    """That of OpenCV; ``size``: pixels of the longer side of what it is shown, 320 unless given."""

    kind: Literal["yunet"]
    size: Annotated[int, Field(ge=32, le=4096)] | None = None


class InsightFace(_Detector):
    """One of insightface; ``size``: pixels of both sides of what it is shown, 640 unless given."""

    kind: Literal["insightface"]
    size: Annotated[int, Field(ge=64, le=4096, multiple_of=32)] | None = None
    provider: Provider = "auto"
    """What computes it; auto: the graphics card where onnxruntime knows one."""


Faces = WholeImage | YuNet | InsightFace


class Classifier(_Strict):
    """An image classifier whose outputs are merged into classes: attribute -> class -> names of outputs.

    A class gets the summed probability of its outputs, within all outputs that the attribute uses. What is
    not given is read from the files beside the weights, where the library keeps it.
    """

    kind: Literal["transformers", "timm", "torchvision"]
    source: Text
    sha256: Sha256 | None = None
    architecture: Text | None = None
    outputs: tuple[Text, ...] | None = None
    unused: tuple[Text, ...] | Literal["rest"] = ()
    image_size: Annotated[int, Field(ge=8)] | None = None
    mean: Triple | None = None
    std: Triple | None = None
    attributes: Readings


class ZeroShot(_Strict):
    """A CLIP in open_clip's own format; attribute -> class -> prompts, whose directions are averaged."""

    kind: Literal["open_clip"]
    source: Text
    sha256: Sha256 | None = None
    attributes: Readings


class SkinTone(_Strict):
    """The pixels of the face on the Monk scale."""

    kind: Literal["skin_tone"]

    @property
    def attributes(self) -> dict[str, dict[str, Any]]:
        """The one attribute it reads."""
        return {name: dict.fromkeys(bins) for name, bins in SCALES.items()}


Network = Annotated[Classifier | ZeroShot | SkinTone, Field(discriminator="kind")]


def _agreeing(networks: tuple[Any, ...]) -> tuple[Any, ...]:
    seen: dict[str, tuple[str, ...]] = {}
    for network in networks:
        for name, classes in network.attributes.items():
            if seen.setdefault(name, tuple(classes)) != tuple(classes):
                raise ValueError(f"two networks read {name}: give both the same classes in the same order")
    return networks


class JudgeFile(_Strict):
    """The content of a judge file; networks that read the same attribute vote with equal weight."""

    schema_version: Literal[1] = 1
    name: Name
    faces: Annotated[Faces, Field(discriminator="kind")] = WholeImage()
    networks: Annotated[tuple[Network, ...], AfterValidator(_some), AfterValidator(_agreeing)]

    @property
    def attributes(self) -> dict[str, tuple[str, ...]]:
        """Attribute -> its classes."""
        return {
            name: tuple(classes) for network in self.networks for name, classes in network.attributes.items()
        }
