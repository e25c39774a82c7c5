"""How a published classifier is shown its images: scaled, cut out of the middle, rescaled, normalised.

What its files ask for is held against the library's own processor, and refused where it is more than that.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from fairbench.errors import UserError
from fairbench.judges.sources import settings_of

if TYPE_CHECKING:
    from torch import Tensor

PREPROCESSOR = "preprocessor_config.json"
UNCUT = 384
"""A processor with ``crop_pct`` cuts nothing off from this size on, as ConvNeXt was evaluated."""


@dataclass(frozen=True)
class Frame:
    """Which part of a square image is seen, in pixels: it is scaled, and its middle is cut out."""

    scaled: int
    seen: int
    margin: int

    @classmethod
    def whole(cls, size: int) -> "Frame":
        """Return that of an image of which all is seen."""
        return cls(size, size, 0)

    def cut(self, images: "Tensor") -> "Tensor":
        """Return N x 3 x ``seen`` x ``seen`` of N x 3 x ``scaled`` x ``scaled``."""
        rows = slice(self.margin, self.margin + self.seen)
        return images[:, :, rows, rows]


class Normalise(nn.Module):
    """``(image - mean) / std`` per channel, of images in [0, 1]."""

    mean: "Tensor"
    std: "Tensor"

    def __init__(self, mean: Any, std: Any) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))

    def forward(self, images: "Tensor") -> "Tensor":
        """Return the same shape."""
        return (images - self.mean) / self.std


def of_timm(seen: Mapping[str, Any]) -> dict[str, Any]:
    """Return frame, mean and std, as far as the ``pretrained_cfg`` of timm tells them."""
    size, found = (seen.get("input_size") or [None])[-1], {key: seen.get(key) for key in ("mean", "std")}
    if size is not None:
        scaled = int(size / (seen.get("crop_pct") or 1))
        found["frame"] = Frame(scaled, size, round((scaled - size) / 2))
    return {key: value for key, value in found.items() if value is not None}


def of_transformers(directory: Path) -> dict[str, Any]:
    """Return frame, mean and std of the processor in ``directory``; nothing where there is none.

    Raises
    ------
    UserError
        The processor of the library does something else with an image, or the library knows none.
    """
    if not settings_of(directory / PREPROCESSOR):
        return {}
    try:
        from transformers import AutoImageProcessor

        processor = AutoImageProcessor.from_pretrained(
            directory, local_files_only=True, trust_remote_code=False
        )
        found = _read(processor.to_dict())
        agreed = _agree(processor, found)
    except Exception:  # whatever a strange setting makes the library, or its reading, raise
        agreed = False
    if not agreed:
        raise UserError(
            f"{directory / PREPROCESSOR}: asks for more than to scale a square image, to cut out its middle, "
            "to rescale and to normalise: state image_size, mean and std in the judge file"
        )
    return found


def _read(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return frame, mean and std of images in [0, 1]; the processor may rescale other numbers, or none."""
    scaled = seen = _side(settings["size"])
    percent = settings.get("crop_pct")
    if percent and seen < UNCUT:
        scaled = int(seen / percent)
    if settings.get("do_center_crop"):
        seen = _side(settings["crop_size"])
    largest = 255 * settings["rescale_factor"] if settings.get("do_rescale", True) else 255
    mean, std = (0.0,) * 3, (1.0,) * 3
    if settings.get("do_normalize", True):
        mean, std = settings["image_mean"], settings["image_std"]
    return {
        "frame": Frame(scaled, seen, (scaled - seen) // 2),
        "mean": tuple(value / largest for value in mean),
        "std": tuple(value / largest for value in std),
    }


def _side(size: int | Mapping[str, int]) -> int:
    """Return the side of a square; a ``ValueError`` where it is none."""
    if isinstance(size, int):
        return size
    (side,) = {size[key] for key in ("shortest_edge", "height", "width") if size.get(key)}
    return side


def _agree(processor: Any, found: Mapping[str, Any]) -> bool:
    """Tell whether the library makes the same of an image that needs no scaling."""
    frame: Frame = found["frame"]
    image = torch.randint(256, (frame.scaled, frame.scaled, 3), generator=torch.Generator().manual_seed(0))
    theirs = processor(image.numpy().astype("uint8"), return_tensors="pt")["pixel_values"].float()
    mine = Normalise(found["mean"], found["std"])(frame.cut(image.permute(2, 0, 1)[None] / 255))
    return mine.shape == theirs.shape and torch.allclose(mine, theirs, rtol=1e-4, atol=1e-4)
