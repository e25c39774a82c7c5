"""The two kinds of feature networks, built from their description."""

from torch import nn

from fairbench.features.description import FeaturesDescription
from fairbench.networks import backbone, clip


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
    return clip(description.kwargs, where)
