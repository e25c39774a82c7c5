"""What ``features.json`` says: which kind of network it is, and how to build it."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints


class FeaturesDescription(BaseModel):
    """The content of ``features.json``.

    ``kind`` "timm": a backbone of ``architecture`` built with ``kwargs``. "open_clip": a CLIP with ``kwargs``
    as its configuration (embed_dim, vision_cfg, text_cfg), with a ``tokenizer`` directory beside it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    name: Annotated[str, StringConstraints(strict=True, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    kind: Literal["timm", "open_clip"]
    architecture: str = ""
    kwargs: dict[str, Any] = {}
    image_size: int = Field(64, ge=1)
    measured: dict[str, Any] = {}
