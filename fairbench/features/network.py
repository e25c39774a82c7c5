"""The two kinds of feature networks, built from their description."""

from typing import Any

from torch import nn

from fairbench.errors import UserError
from fairbench.features.description import FeaturesDescription
from fairbench.networks import backbone, one_line

# What would make open_clip fetch other people's weights.
_RESERVED = ("hf_model_name", "timm_model_name", "timm_model_pretrained")


def build_network(description: FeaturesDescription) -> nn.Module:
    """Return an untrained network.

    Raises
    ------
    UserError
        timm or open_clip cannot build it.
    """
    where = f"features {description.name}"
    if description.kind == "timm":
        return backbone(description.architecture, description.kwargs, where)
    return _clip(description.kwargs, where)


def _clip(config: dict[str, Any], where: str) -> nn.Module:
    from open_clip.model import CLIP

    for part in ("vision_cfg", "text_cfg"):
        section = config.get(part)
        if not isinstance(section, dict):
            raise UserError(f"{where}: kwargs must hold {part} with the sizes of that tower")
        refused = [key for key in _RESERVED if key in section]
        if refused:
            raise UserError(f"{where}: {part}: take out {', '.join(refused)}; only sizes may be set here")
    try:
        return CLIP(**config)
    except Exception as error:  # open_clip raises whatever its layers happen to raise
        raise UserError(f"{where}: open_clip cannot build {config}: {one_line(error)}") from error
