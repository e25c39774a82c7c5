"""The model as it is: what every other method is compared with."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from fairbench.draws import Draw
from fairbench.intervention import DrawClass, FitContext, Intervention
from fairbench.models.hooks import Hooks
from fairbench.models.text_to_image import TextToImage


class Original:
    """No debiasing at all.

    The pictures :math:`G(y, z_T)` of a prompt and its noise, as the model makes them.

    Source: the model itself.

    Limits: it shows the bias of the model and changes nothing. Cost: 2 U-Net rows per image and step, and
    nothing to fit. It works with every model that fairbench loads.
    """

    name: ClassVar[str] = "original"
    draw_class: ClassVar[DrawClass] = "emergent"
    neutral: ClassVar[dict[str, Any]] = {}

    class Config(BaseModel):
        """Nothing to set."""

        model_config = ConfigDict(frozen=True, extra="forbid")

        updates: int = 0

    def __init__(self, config: Config) -> None:
        self.config = config

    def fit(self, context: FitContext) -> Intervention:
        """Return an intervention that holds nothing."""
        return Intervention(self.name, self.draw_class, tensors={}, settings={})

    @contextmanager
    def apply(self, intervention: Intervention, model: TextToImage, draw: Draw) -> Iterator[Hooks]:
        """Leave ``model`` alone."""
        yield Hooks()
