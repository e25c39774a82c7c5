"""The settings that every direct finetuning has; a method adds its own, and changes defaults.

Left open (None), a setting is the model's or follows from the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StrictBool, model_validator

from fairbench.errors import unknown

Count = Annotated[int, Field(ge=1, le=1_000_000)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Tune = Literal["text_encoder", "unet", "text_encoder+unet", "prefix"]
Mode = Literal["standardised", "raw", "official"]

COST_ONLY = {"updates", "rows", "pictures_at_once", "checkpointing"}
"""Settings that say how long or in what portions, not what is computed."""


class Settings(BaseModel):
    """The paper's values (arXiv 2311.07604) where they carry over to a small model."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    updates: Count = 150
    tune: Tune = "text_encoder"
    """What learns: LoRA on these parts, or five soft tokens in front of the prompt."""
    rank: Annotated[int, Field(ge=1, le=4096)] | None = None
    """Of the LoRA; the model's own if None."""
    soft_tokens: Literal["shared", "random"] = "shared"
    """What a prefix begins as: the words that the training prompts share, or random ones as in the paper."""
    learning_rate: Positive | None = None
    """The model's own if None."""
    optimizer: Literal["adamw", "adamw8bit", "adafactor", "sgd"] = "adamw"
    lr_schedule: Literal["constant", "cosine", "linear"] = "constant"
    """How the learning rate goes on after the warm-up; the last two end at zero."""
    warmup: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """Updates in which the learning rate rises from zero."""
    clip: Positive | None = 10
    """The largest gradient norm that is let through unscaled; None for any."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.996
    """Of the running average of the weights, which is what is exported."""
    prompts_per_update: Count = 3
    images_per_prompt: Annotated[int, Field(ge=2, le=100_000)] = 8
    """Balanced together in one update."""
    noises_per_prompt: Count = 8
    """The bank of noise that a prompt's images are drawn from."""
    steps: Count | None = None
    """Denoising steps while training; two thirds of the model's own if None, about the paper's share."""
    guidance: Positive | None = None
    """Scale of classifier-free guidance while training; the model's own if None."""
    confidence: Share = 0.8
    """An expected target below it is no target."""
    image_weight: NotNegative = 8
    """Of keeping what the original picture shows."""
    change_factor: Share | dict[str, Share] = 0.2
    """Share of that weight for a picture that is to change its class, for all attributes or for each."""
    region_factor: Share | dict[str, Share] = 1.0
    """Share of what is then left, for the face of such a picture."""
    face_weight: NotNegative = 0
    """Of a face that looks like the original one, or like a real one."""
    face_confidence: Share = 0.9
    """How sure the judge must be of the original face for it to be the one to keep."""
    rows: Count | Literal["auto"] = "auto"
    """(image, step) pairs in one pass of the U-Net with gradient; auto: what the memory holds."""
    pictures_at_once: Count | Literal["auto"] = "auto"
    """Pictures decoded, judged and compared in one pass with gradient."""
    checkpointing: StrictBool | Literal["auto"] = "auto"
    """Saves memory: the U-Net computes its blocks again on the way back; auto: only if it must."""

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.noises_per_prompt < self.images_per_prompt:
            raise ValueError("noises_per_prompt must not be smaller than images_per_prompt")
        if self.tune == "prefix" and self.rank is not None:
            raise ValueError("tune=prefix trains soft tokens, which have no rank: leave out one of the two")
        return self

    def looks_at_faces(self, attributes: Sequence[str]) -> bool:
        """Tell whether the loss needs to know where a face is, or whose."""
        factors = per_attribute("region_factor", self.region_factor, attributes)
        return self.face_weight > 0 or min(factors.values()) < 1


class AdjustedSettings(Settings):
    """Those of the adjusted gradient, whatever part it trains."""

    timesteps_per_update: Count | None = 4
    """How many random steps the gradient is taken at; None for all."""
    mode: Mode | None = None
    """Weights of the steps; if None the default of the model: standardised unless it says otherwise."""


def per_attribute(setting: str, value: float | dict[str, float], names: Sequence[str]) -> dict[str, float]:
    """Return one value per attribute of ``names``; those that a mapping leaves out have 1.

    Raises
    ------
    UserError
        If a mapping names an attribute that is not balanced.
    """
    if not isinstance(value, dict):
        return dict.fromkeys(names, value)
    for name in value:
        if name not in names:
            raise unknown(f"attribute in {setting}", name, names)
    return dict.fromkeys(names, 1.0) | value
