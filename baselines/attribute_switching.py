"""Begin with the neutral prompt and name the drawn class only later, so that the picture keeps its layout.

The early steps decide where things are, the late ones what they look like.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from fairbench.attributes import AttributeSpace, TargetDistribution
from fairbench.draws import Draw
from fairbench.editing.class_prompts import check_class_prompts
from fairbench.intervention import DrawClass, FitContext, Intervention
from fairbench.models.hooks import Conditioning, Hooks
from fairbench.models.text_to_image import TextToImage
from fairbench.wording import described


class AttributeSwitching:
    r"""Use the neutral prompt for the first steps, and the prompt of the drawn class from then on.

    .. math:: c_i = \begin{cases} c(p) & i < \tau S \\ c(p') & i \ge \tau S \end{cases}

    for the steps :math:`i = 0 \dots S-1`, with :math:`p'` of `HardPrompt` and :math:`\tau S` rounded.

    Source: the switching of MaxBer04/DebiasDiffusion, whose 22 of 50 steps is the default; the prompt queuing
    of FairQueue does the same with learnt embeddings.

    Limits: those of `HardPrompt`. What the model has decided by step :math:`\tau S` stays, the class too if
    it decides that early. Cost: that of the original, 2 U-Net rows per image and step. SDXL is not supported.
    """

    name: ClassVar[str] = "attribute_switching"
    draw_class: ClassVar[DrawClass] = "drawn"
    supports: ClassVar[tuple[str, ...] | None] = None
    neutral: ClassVar[dict[str, Any]] = {"after": 1}

    class Config(BaseModel):
        """Settings; that of the source."""

        model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

        updates: int = 0
        after: Annotated[float, Field(ge=0, le=1)] = 0.44
        """Share of the steps with the neutral prompt."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def check_task(
        self, model: TextToImage, space: AttributeSpace, target: TargetDistribution, prompts: Sequence[str]
    ) -> None:
        """Raise a ``UserError`` where a class cannot be written into a prompt."""
        check_class_prompts(model, space, prompts)

    def fit(self, context: FitContext) -> Intervention:
        """Note the attributes; there is nothing to learn."""
        settings = {"attributes": list(context.space.names), "after": self.config.after}
        return Intervention(self.name, self.draw_class, {}, settings)

    @contextmanager
    def apply(self, intervention: Intervention, model: TextToImage, draw: Draw) -> Iterator[Hooks]:
        """Hand the embeddings of the prompt with its class on as those that take over."""
        space = AttributeSpace(tuple(intervention.settings["attributes"]))

        def embed(conditioning: Conditioning, prompts: Sequence[str], seeds: Sequence[int]) -> Conditioning:
            texts = [described(prompt, space, k) for prompt, k in zip(prompts, draw(seeds), strict=True)]
            return replace(
                conditioning, later=(intervention.settings["after"], model.encode(texts).conditional)
            )

        yield Hooks(embed=embed)
