"""Image and text features: CLIP-like and self-supervised networks.

Nothing heavy is imported before a network is built.
"""

from fairbench.features.image_features import ImageFeatures, cosine, seen_by
from fairbench.features.loading import build_features, identify_features, load_features, save_features

__all__ = [
    "ImageFeatures",
    "build_features",
    "cosine",
    "identify_features",
    "load_features",
    "save_features",
    "seen_by",
]
