"""Write the drawn class into the prompt, and the classes that were not drawn into the negative prompt.

Guidance then leads away from the other classes instead of away from the empty prompt.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import ClassVar

from pydantic import BaseModel, ConfigDict

from fairbench.attributes import AttributeSpace, TargetDistribution
from fairbench.draws import Draw
from fairbench.editing.class_prompts import check_class_prompts
from fairbench.intervention import DrawClass, FitContext, Intervention
from fairbench.models.hooks import Conditioning, Hooks
from fairbench.models.text_to_image import TextToImage
from fairbench.wording import described, other_words


class HardPromptNegative:
    r"""Name the drawn class in the prompt, and all others in the negative prompt.

    .. math:: \epsilon = \epsilon(p^-) + g\, \big(\epsilon(p') - \epsilon(p^-)\big)

    with :math:`p'` of `HardPrompt` and :math:`p^-` the words of the other classes of every attribute, such as
    "male" or "white, Indian, Asian".

    Source: the hard prompt search with negative prompt in the reproducibility study of ITI-GEN
    (arXiv 2309.05569), TMLR 2024.

    Limits: those of `HardPrompt`. The prediction for the negative prompt, which takes the place of that for
    the empty one, is also asked for words that are far from anything the model was trained on. Cost: that of
    the original, 2 U-Net rows per image and step. SDXL is not supported.
    """

    name: ClassVar[str] = "hard_prompt_negative"
    draw_class: ClassVar[DrawClass] = "drawn"
    supports: ClassVar[tuple[str, ...] | None] = None

    class Config(BaseModel):
        """Nothing to set."""

        model_config = ConfigDict(frozen=True, extra="forbid")

        updates: int = 0

    def __init__(self, config: Config) -> None:
        self.config = config

    def check_task(
        self, model: TextToImage, space: AttributeSpace, target: TargetDistribution, prompts: Sequence[str]
    ) -> None:
        """Raise a ``UserError`` where a class cannot be written into a prompt."""
        check_class_prompts(model, space, prompts)

    def fit(self, context: FitContext) -> Intervention:
        """Note the attributes; there is nothing to learn."""
        return Intervention(self.name, self.draw_class, {}, {"attributes": list(context.space.names)})

    @contextmanager
    def apply(self, intervention: Intervention, model: TextToImage, draw: Draw) -> Iterator[Hooks]:
        """Rewrite the prompt of every image, and put the negative prompt in the place of the empty one."""
        space = AttributeSpace(tuple(intervention.settings["attributes"]))

        def rewrite(prompts: Sequence[str], seeds: Sequence[int]) -> list[str]:
            return [described(prompt, space, k) for prompt, k in zip(prompts, draw(seeds), strict=True)]

        def embed(conditioning: Conditioning, prompts: Sequence[str], seeds: Sequence[int]) -> Conditioning:
            others = [other_words(prompt, space, k) for prompt, k in zip(prompts, draw(seeds), strict=True)]
            return replace(conditioning, unconditional=model.encode(others).conditional)

        yield Hooks(rewrite=rewrite, embed=embed)
