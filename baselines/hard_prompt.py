"""Write the drawn class into the prompt: what prompting can reach, and the bound for everything cleverer.

"a photo of the face of a nurse, a person" becomes "a photo of the face of an old Black male nurse, a person".
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import ClassVar

from pydantic import BaseModel, ConfigDict

from fairbench.attributes import AttributeSpace, TargetDistribution
from fairbench.draws import Draw
from fairbench.editing.class_prompts import check_class_prompts
from fairbench.intervention import DrawClass, FitContext, Intervention
from fairbench.models.hooks import Hooks
from fairbench.models.text_to_image import TextToImage
from fairbench.wording import described


class HardPrompt:
    r"""Name the drawn class in the prompt, before its subject.

    .. math:: p' = \text{article} + \text{words of } a_i + \text{subject}, \qquad a_i \sim t

    with the words in the order of English adjectives (age, race, gender) and the article that fits them.

    Source: the hard prompt search of arXiv 2309.05569, and "FairPrompt" of arXiv 2510.21363, which takes it
    as the upper bound.

    Limits: a class must have a word. WMELH, which joins three groups, is called "white". An attribute that a
    prompt names already is not named again; a prompt needs a subject with an article, whether or not that is
    a person. Cost: that of the original, 2 U-Net rows per image and step. SDXL is not supported.
    """

    name: ClassVar[str] = "hard_prompt"
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
        """Rewrite the prompt of every image."""
        space = AttributeSpace(tuple(intervention.settings["attributes"]))

        def rewrite(prompts: Sequence[str], seeds: Sequence[int]) -> list[str]:
            return [described(prompt, space, k) for prompt, k in zip(prompts, draw(seeds), strict=True)]

        yield Hooks(rewrite=rewrite)
