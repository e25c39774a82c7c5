"""What a run is checked against: its counts per prompt in one small file that can be committed."""

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, NonNegativeInt, ValidationError, model_validator

from fairbench.attributes import ATTRIBUTES
from fairbench.comparison.equivalence import MARGINS, by_prompt
from fairbench.comparison.variants import Variant
from fairbench.errors import UserError, invalid
from fairbench.metrics.counts import count_table
from fairbench.records import ORIGINAL, PRODUCT, reads
from fairbench.storage import atomic_write_text, read_json
from fairbench.store.load import StoredRun

SCHEMA_VERSION = 1


class PromptResult(BaseModel):
    """One prompt: attribute -> images of each class; quality measure -> mean over its images."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    counts: dict[str, tuple[NonNegativeInt, ...]]
    quality: dict[str, float | None] = {}


class Reference(BaseModel):
    """One variant of a run, as far as a check needs it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    method: str
    draw_class: str
    model: str
    suite: str
    suite_sha256: str
    judge: str
    judge_sha256: str
    seed: int | None
    target: dict[str, tuple[float, ...]]
    classes: dict[str, tuple[str, ...]]
    """Attribute or intersection -> its classes, in the order of the counts."""
    prompts: dict[str, PromptResult]
    """Prompt id -> what was counted."""

    @model_validator(mode="after")
    def _counts_fit(self) -> "Reference":
        for name, prompt in self.prompts.items():
            if {key: len(counts) for key, counts in prompt.counts.items()} != {
                key: len(classes) for key, classes in self.classes.items()
            }:
                raise ValueError(f"prompt {name}: give one count for each class")
        return self


def reference_of(run: StoredRun, judge_sha256: str | None = None) -> Reference:
    """Take from ``run`` what a check needs: the method's images, or the original's where there are no others.

    Parameters
    ----------
    run
        A stored run.
    judge_sha256
        The evaluation judge whose view to take; the primary one if None.

    Raises
    ------
    UserError
        That judge has not evaluated this run.
    """
    names = [str(name) for name in run.records["variant"].unique()]
    variant = Variant("", run, next((name for name in names if name != ORIGINAL), ORIGINAL))
    judges = variant.judges
    wanted = next(iter(judges.values())) if judge_sha256 is None else judge_sha256
    judge = next((name for name, sha256 in judges.items() if sha256 == wanted), None)
    if judge is None:
        raise UserError(
            f"{run.path} was not evaluated by the judge of the reference: evaluate it with that one"
        )
    tables = {name: count_table(variant.rows, judge, name) for name in _judged(variant, judge)}
    quality = {measure: by_prompt(variant.rows, measure, judge) for measure in MARGINS}
    return Reference(
        method=variant.name,
        draw_class=variant.draw_class,
        model=run.metrics.model,
        suite=variant.suite[0],
        suite_sha256=variant.suite[1],
        judge=judge,
        judge_sha256=wanted,
        seed=run.config.get("seed"),
        target=variant.target,
        classes={name: tuple(table.columns) for name, table in tables.items()},
        prompts={
            str(prompt): PromptResult(
                counts={name: tuple(table.loc[prompt].tolist()) for name, table in tables.items()},
                quality={
                    name: _rounded(column[prompt]) for name, column in quality.items() if column is not None
                },
            )
            for prompt in variant.rows["prompt_id"].unique()
        },
    )


def load_reference(path: Path) -> Reference:
    """Read a reference file.

    Raises
    ------
    UserError
        The file cannot be read, is not a reference, or a newer fairbench wrote it.
    """
    if not path.exists():
        raise UserError(f"{path}: there is no such file: write one with fairbench check RUN --save")
    content = read_json(path, lambda error: f"{path}: is not a reference: {error}")
    version = content.get("schema_version")
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise UserError(f"{path}: was written by a newer fairbench: update fairbench to read it")
    try:
        return Reference.model_validate(content)
    except ValidationError as error:
        raise invalid(str(path), error, Reference.model_fields) from None


def save_reference(path: Path, reference: Reference) -> None:
    """Write a reference file, one line for each prompt, so that a diff of two can be read."""
    content = reference.model_dump(mode="json")
    prompts = content.pop("prompts")
    lines = [f" {json.dumps(key)}: {json.dumps(value)}" for key, value in content.items()]
    rows = ",\n".join(f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in prompts.items())
    atomic_write_text(path, "{\n" + ",\n".join([*lines, f' "prompts": {{\n{rows}\n }}']) + "\n}\n")


def _judged(variant: Variant, judge: str) -> list[str]:
    """Return every attribute that the judge reads, and the intersection that the run set out to balance."""
    read = [name for name in ATTRIBUTES if reads(variant.rows, judge, name)]
    asked = [name for name in variant.run.metrics.attributes if name in read]
    return [*read, *([PRODUCT.join(asked)] if len(asked) > 1 else [])]


def _rounded(value: Any) -> float | None:
    return None if value != value else round(float(value), 6)
