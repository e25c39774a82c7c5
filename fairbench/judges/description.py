"""What ``judge.json`` says: how to build the network, and what its outputs are called."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints


def _distinct(labels: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(labels)) < len(labels):
        raise ValueError("name each label once")
    return labels


def _not_face(name: str) -> str:
    if name == "face":
        raise ValueError("every judge has a face output; it is no attribute")
    return name


Name = Annotated[str, StringConstraints(strict=True, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Attribute = Annotated[
    str, StringConstraints(strict=True, pattern=r"^[a-z][a-z0-9_]*$"), AfterValidator(_not_face)
]
Label = Annotated[str, StringConstraints(strict=True, min_length=1)]
Labels = Annotated[tuple[Label, ...], Field(min_length=2), AfterValidator(_distinct)]


class JudgeDescription(BaseModel):
    """The content of ``judge.json``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    name: Name
    role: Literal["train", "evaluation"]
    architecture: str
    kwargs: dict[str, Any] = {}
    image_size: int = Field(64, ge=1)
    attributes: dict[Attribute, Labels] = Field(min_length=1)
    measured: dict[str, Any] = {}
