"""What measuring must know about a run besides its records: who judged, what was wanted, what is compared.

It is stored with the records when they are judged, so that no model and no network is needed afterwards.
"""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fairbench.errors import invalid
from fairbench.storage import read_json
from fairbench.store.results import Sequential, refuse_newer


class JudgeUsed(BaseModel):
    """One judge, as far as its judgements are to be understood."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    sha256: str = ""
    weights: tuple[str, ...] = ()
    """Sha256 of each file of weights, by which a renamed copy is known; none in older runs."""
    trained: bool = False
    """Whether the method learnt from it; then it is shown beside the others and never one of them."""
    attributes: dict[str, tuple[str, ...]]
    confusion: dict[str, tuple[tuple[int, ...], ...]] = {}
    """Attribute -> K x K counts on labelled images, row = truth; only what was measured."""

    def is_a_copy_of(self, other: "JudgeUsed") -> bool:
        """Tell whether it is the same network, under whatever name and with whatever else written down."""
        return self.sha256 == other.sha256 or not {*self.weights}.isdisjoint(other.weights)


class Measurement(BaseModel):
    """The content of ``measurement.json``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[2, 3] = 3
    method: str
    draw_class: str
    model: str
    suite: str
    suite_sha256: str = ""
    measures: Literal["bias", "obedience", "preservation"] = "bias"
    attributes: tuple[str, ...]
    target: dict[str, tuple[float, ...]]
    judges: tuple[JudgeUsed, ...] = Field(min_length=1)
    """The primary one first."""
    network: str | None = None
    """The feature network of distances and diversity, where there is one."""
    sequential: Sequential | None = None
    """How generating was stopped, where it was not planned in advance."""
    updates: int = 0
    """Of the finetuning, as planned."""
    stop_on: tuple[str, ...] = ()
    """Warnings that were to end it."""
    notes: tuple[str, ...] = ()

    @property
    def evaluating(self) -> list[JudgeUsed]:
        """The judges whose view counts."""
        return [judge for judge in self.judges if not judge.trained]

    @property
    def training_judge(self) -> JudgeUsed | None:
        """The judge that the method learnt from."""
        return next((judge for judge in self.judges if judge.trained), None)


def read_measurement(path: Path) -> Measurement:
    """Read ``measurement.json``; a fault, or a newer schema, is a ``UserError``."""
    content = read_json(path)
    refuse_newer(content, path)
    try:
        return Measurement.model_validate(content)
    except ValidationError as error:
        raise invalid(str(path), error, Measurement.model_fields) from None
