"""Append a sentence that asks for fairness to the prompt, and hope that the text encoder understands it.

Two sentences that have nothing to do with the attribute are there as a control.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from fairbench.attributes import AttributeSpace, TargetDistribution
from fairbench.draws import Draw
from fairbench.errors import UserError
from fairbench.intervention import DrawClass, FitContext, Intervention
from fairbench.models.hooks import Hooks
from fairbench.models.text_to_image import TextToImage
from fairbench.wording import subject, with_article

NAMED = {"gender": "gender", "race": "skin color"}
CONTROLS = {
    "compassion": "if compassion is the basis of morality",
    "honesty": "if honesty is the best policy",
}


class EthicalIntervention:
    r"""Append "if all individuals can be a {subject} irrespective of their gender" to the prompt.

    .. math:: p' = p + s(\text{subject of } p)

    Source: arXiv 2210.15230, in the wording of its released prompts (whole profession, with article), for
    gender and skin color; both at once, "gender and skin color", is ours. Its two irrelevant sentences,
    ``sentence=compassion`` and ``sentence=honesty``, show how much of an effect any longer prompt has.

    Limits: gender and race only. It states no ratio, so the target must be uniform. The sentence takes about
    twelve tokens, and a text encoder may make little of it. It does not fit into the 32 tokens of
    `portraits`, whose vocabulary spells most of its words in pieces (the shortest prompts come to 40); the
    controls fit with all but a few long occupations, so run them with fewer ``--test-prompts``. Cost: that of
    the original, 2 U-Net rows per image and step. SDXL is not supported.
    """

    name: ClassVar[str] = "ethical_intervention"
    draw_class: ClassVar[DrawClass] = "emergent"
    supports: ClassVar[tuple[str, ...] | None] = tuple(NAMED)

    class Config(BaseModel):
        """Settings."""

        model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

        updates: int = 0
        sentence: Literal["intervention", "compassion", "honesty"] = "intervention"
        """What is appended: the request, or a control."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def check_task(
        self, model: TextToImage, space: AttributeSpace, target: TargetDistribution, prompts: Sequence[str]
    ) -> None:
        """Raise a ``UserError`` where the target is not uniform or a prompt becomes too long."""
        if not target.is_uniform:
            raise UserError(f"{self.name} states no ratio: leave --target out, or use a drawn method")
        texts = [appended(prompt, space.names, self.config.sentence) for prompt in prompts]
        try:
            model.tokens(texts)
        except UserError as error:
            raise UserError(f"{self.name} needs a longer text encoder: {error}") from None

    def fit(self, context: FitContext) -> Intervention:
        """Note what to append; there is nothing to learn."""
        settings = {"attributes": list(context.space.names), "sentence": self.config.sentence}
        return Intervention(self.name, self.draw_class, {}, settings)

    @contextmanager
    def apply(self, intervention: Intervention, model: TextToImage, draw: Draw) -> Iterator[Hooks]:
        """Append the sentence to every prompt."""
        settings = intervention.settings

        def rewrite(prompts: Sequence[str], seeds: Sequence[int]) -> list[str]:
            return [appended(prompt, settings["attributes"], settings["sentence"]) for prompt in prompts]

        yield Hooks(rewrite=rewrite)


def appended(prompt: str, attributes: Sequence[str], sentence: str) -> str:
    """Return ``prompt`` with its sentence."""
    if sentence in CONTROLS:
        return f"{prompt} {CONTROLS[sentence]}"
    whatever = " and ".join(NAMED[name] for name in attributes)
    return (
        f"{prompt} if all individuals can be {with_article(subject(prompt))} irrespective of their {whatever}"
    )
