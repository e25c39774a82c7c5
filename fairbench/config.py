"""The settings of a run: checked when they are made, frozen after, and hashed to tell two runs apart.

``None`` and empty mean "what the method or the model takes by default".
"""

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core.core_schema import ValidationInfo

from fairbench.attributes import AttributeSpace, TargetDistribution
from fairbench.draws import DrawClass, Rule
from fairbench.errors import UserError, invalid
from fairbench.storage import read_yaml, sha256_of

Count = Annotated[int, Field(ge=1, le=1_000_000)]


class RunConfig(BaseModel):
    """Everything that decides what a run computes; nothing that does not, such as where it is stored.

    Examples
    --------
    >>> config = RunConfig(attributes="gender,race", seed=1)
    >>> config.attributes, config.digest() == RunConfig(attributes=["gender", "race"], seed=1).digest()
    (('gender', 'race'), True)
    """

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    method: str = "biased_dft"
    method_options: dict[str, JsonValue] = {}
    model: str = "portraits"
    model_options: dict[str, JsonValue] = {}
    suite: str = "occupations"
    attributes: tuple[str, ...] = ("gender",)
    target: Literal["uniform"] | dict[str, tuple[float, ...]] = "uniform"
    draw: Rule = "iid"
    updates: Count | None = None
    split: Literal["validation", "test"] = "test"
    """Of the suite, to measure on; settings of a method are chosen on the one, so that the other is new."""
    images_per_prompt: Annotated[int, Field(ge=1, le=100_000)] = 16
    test_prompts: Count | None = None
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    steps: Count | None = None
    guidance: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    judges: tuple[str, ...] = ()
    training_judge: str | None = None
    features: tuple[str, ...] = ()
    training_features: tuple[str, ...] = ()
    real_faces: str | None = None
    """A folder of faces of real people, for the face loss."""
    face_features: str | None = None
    """What tells faces apart there; the last of ``training_features`` if None."""
    images: str | None = None
    """A folder, a table or a run whose images are measured, instead of generating any."""
    draw_class: DrawClass | None = None
    """Who chose the attributes of the images that are given, where that is known."""
    reference: str | None = None
    """A folder of images that FID and KID compare with, instead of rendered ones."""
    adapter: str | None = None
    """The directory of an intervention to apply, instead of finetuning."""
    until_width: Annotated[float, Field(ge=0.01, le=1)] | None = None
    """Generate until the interval of the gap is so narrow, instead of so many images per prompt."""
    stop_on: tuple[str, ...] = ()

    @field_validator("attributes", mode="before")
    @classmethod
    def _attributes(cls, value: Any) -> tuple[str, ...]:
        return AttributeSpace.parse(value).names

    @field_validator("target", mode="before")
    @classmethod
    def _target(cls, value: Any, info: ValidationInfo) -> Any:
        if value is None or value == "uniform":
            return "uniform"
        return TargetDistribution.parse(value, AttributeSpace(info.data["attributes"])).probabilities

    @model_validator(mode="after")
    def _only_given_images_have_a_draw_class(self) -> "RunConfig":
        if self.draw_class and not self.images:
            raise ValueError("draw_class is of images that are given: a method says its own")
        return self

    def digest(self) -> str:
        """Sha256 of the canonical JSON: equal if and only if the settings are."""
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return sha256_of(canonical.encode())


def make_config(settings: Mapping[str, Any], where: str = "") -> RunConfig:
    """Check ``settings``; ``where`` they came from begins the ``UserError`` about a wrong one.

    Examples
    --------
    >>> make_config({"method": "original", "seed": 1}).seed
    1
    """
    try:
        return RunConfig.model_validate(dict(settings))
    except ValidationError as error:
        raise invalid(where, error, RunConfig.model_fields) from None
    except UserError as error:
        raise UserError(f"{where}: {error}" if where else str(error)) from None


def load_config(path: Path | str, overrides: Mapping[str, Any] | None = None) -> RunConfig:
    """Read settings from a YAML file; ``overrides`` that are not None take the place of what it says.

    Raises
    ------
    UserError
        The file is missing or not YAML, or a key is unknown or mistyped.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder, "run.yaml")
    ...     _ = path.write_text("seed: 1")
    ...     config = load_config(path, {"steps": 20, "method": None})
    >>> config.seed, config.steps, config.method
    (1, 20, 'biased_dft')
    """
    given = {key: value for key, value in (overrides or {}).items() if value is not None}
    return make_config({**read_yaml(path), **given}, str(path))


def spec(text: str) -> tuple[str, dict[str, JsonValue]]:
    """Split ``"biased_dft[rank=8,lr=1e-3]"`` into its name and its options.

    Values are read as integer, number, true, false or none, else as text.

    Raises
    ------
    UserError
        It is not of that form, or an option is given twice.

    Examples
    --------
    >>> spec("biased_dft[rank=8,lr=1e-3]")
    ('biased_dft', {'rank': 8, 'lr': 0.001})
    """
    form = re.fullmatch(r"\s*([^\[\]]+?)\s*(?:\[([^\[\]]*)\])?\s*", text)
    if not form:
        raise UserError(f"{text!r}: write it like name[option=value,option=value]")
    options: dict[str, JsonValue] = {}
    for part in filter(str.strip, (form[2] or "").split(",")):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not (key and equals and value):
            raise UserError(f"{text!r}: write the option {part.strip()!r} like option=value")
        if key in options:
            raise UserError(f"{text!r}: give the option {key!r} once")
        options[key] = _value(value)
    return form[1], options


def named(key: str, text: str | None) -> dict[str, Any]:
    """Read ``name[option=value]``; naming it replaces the options that a file gives along with the name.

    Examples
    --------
    >>> named("method", "biased_dft[rank=8]")
    {'method': 'biased_dft', 'method_options': {'rank': 8}}
    """
    if text is None:
        return {}
    name, options = spec(text)
    return {key: name, f"{key}_options": options}


def spelled(name: str, options: dict[str, Any]) -> str:
    """Write a name and its options as they are typed: ``portraits-renderer[male=0.5]``.

    Examples
    --------
    >>> spelled("biased_dft", {"rank": 8}), spelled("original", {})
    ('biased_dft[rank=8]', 'original')
    """
    return f"{name}[{','.join(f'{key}={value}' for key, value in options.items())}]" if options else name


def _value(text: str) -> JsonValue:
    words: dict[str, JsonValue] = {"true": True, "false": False, "none": None, "null": None}
    if text.lower() in words:
        return words[text.lower()]
    if re.fullmatch(r"[+-]?\d{1,40}", text):
        return int(text)
    # Not float() alone: it would also take "nan" and "inf", which canonical JSON cannot hold.
    if re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text):
        number = float(text)
        return number if math.isfinite(number) else text
    return text
