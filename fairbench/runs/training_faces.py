"""What the face loss looks with: in the embedded world a whole picture is a face, and real ones are drawn."""

from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING

from fairbench.runs.instruments import of_the_family

if TYPE_CHECKING:
    from torch import Tensor

    from fairbench.features import ImageFeatures
    from fairbench.finetuning.faces import Faces
    from fairbench.suites import Prompt

REAL = 512
"""Real faces to find the nearest one among."""


def training_faces(
    model: str, features: "Sequence[ImageFeatures]", prompts: "Sequence[Prompt]"
) -> "Faces | None":
    """Return the faces of the embedded world, told apart by the last network; None for any other model."""
    from fairbench.finetuning.faces import WholePictures

    if not (of_the_family(model) and features and prompts):
        return None

    def pictures() -> "Tensor":
        from fairbench.portraits.renderer import PortraitsRenderer

        texts = [prompt.text for _ in range(REAL // len(prompts) + 1) for prompt in prompts]
        return PortraitsRenderer().generate(list(islice(texts, REAL)), range(REAL))

    return WholePictures(features[-1], pictures)
