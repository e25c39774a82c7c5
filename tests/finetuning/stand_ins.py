"""A tiny model, judges and features that are quick and whose numbers can be worked out by hand."""

from pathlib import Path

import torch

from fairbench.attributes import AttributeSpace, TargetDistribution
from fairbench.intervention import FitContext
from fairbench.judges.faces import whole_image
from fairbench.models.text_to_image import Defaults, TextToImage
from fairbench.suites import Prompt
from tests.tiny import tiny_pipeline

CONCEPTS = ["nurse", "pilot", "cook", "judge", "baker"]


class ColourJudge:
    """Reads gender off the colour and race off the brightness of a picture; sees a face unless it is dark."""

    name, sha256 = "colours", "0" * 64

    def __init__(self, sharpness: float = 40.0) -> None:
        self.sharpness = sharpness

    def find(self, images):
        return whole_image(images)

    def logits(self, images, found=None):
        red, green, blue = (images - 0.5).mean((2, 3)).T * self.sharpness
        return {
            "gender": torch.stack([red - blue, blue - red], 1),
            "race": torch.stack([red, green, blue, red + green], 1),
            "face": images.mean((1, 2, 3)) * 100 - 1,
        }


class Coarse:
    """Features of a picture: the picture itself at 4 x 4 pixels."""

    name, sha256, image_size = "coarse", "1" * 64, None

    def __call__(self, images):
        return torch.nn.functional.adaptive_avg_pool2d(images, 4).flatten(1)


def tiny_model(scheduler: str = "ddim") -> TextToImage:
    return TextToImage(tiny_pipeline(scheduler), "tiny", Defaults(steps=5, guidance=3.0))


def make_context(directory: Path, model: TextToImage | None = None, **changes) -> FitContext:
    space = AttributeSpace.parse(changes.pop("attributes", "gender"))
    target = TargetDistribution.parse(changes.pop("target", "uniform"), space)
    settings = {
        "model": model or tiny_model(),
        "prompts": [
            Prompt(f"p{i}", f"face of a {c}", c, "occupation", "train") for i, c in enumerate(CONCEPTS)
        ],
        "space": space,
        "target": target,
        "judge": ColourJudge(),
        "features": [Coarse()],
        "updates": 4,
        "seed": 0,
        "directory": directory,
        "suite": "tiny",
        "suite_version": "1",
        "log": lambda row: None,
    }
    return FitContext(**(settings | changes))
