"""What ``judge.json`` says: how to build the network, and what its outputs are called."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from fairbench.errors import UserError


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
Counts = tuple[tuple[Annotated[int, Field(ge=0, strict=True)], ...], ...]
"""K x K counts of labelled images that showed the judge a face: row = truth, column = what the judge said."""


def check_confusion(confusion: dict[str, Counts], attributes: dict[str, tuple[str, ...]]) -> None:
    """Raise a ``ValueError`` unless every matrix is K x K for K labels and can be inverted."""
    for name, counts in confusion.items():
        labels = attributes.get(name, ())
        if len(counts) != len(labels) or any(len(row) != len(labels) for row in counts):
            raise ValueError(f"confusion of {name}: give one row and one column per label of the attribute")
        for label, row in zip(labels, counts, strict=True):
            if not any(row):
                raise ValueError(
                    f"confusion of {name}: no labelled face is {label}: label some of every class"
                )
        from fairbench.judges.error_rates import inverse_rates

        try:
            inverse_rates(counts)
        except UserError as error:
            raise ValueError(f"confusion of {name}: {error}") from None


@dataclass(frozen=True)
class Composition:
    """What a judge that a YAML file puts together reads, and how often it errs where that was measured."""

    name: str
    attributes: dict[str, tuple[str, ...]]
    confusion: dict[str, Counts]


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
    confusion: dict[Attribute, Counts] = {}

    @model_validator(mode="after")
    def _square(self) -> "JudgeDescription":
        check_confusion(self.confusion, self.attributes)
        return self
