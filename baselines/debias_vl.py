"""debiasVL, arXiv 2302.00070: project the prompt embeddings so that the classes of a prompt come out alike.

One matrix, in closed form, from text alone.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from fairbench.attributes import AttributeSpace, TargetDistribution
from fairbench.draws import Draw
from fairbench.editing.class_prompts import check_training_prompts, class_texts, sentence_embeddings
from fairbench.editing.linear import calibrated_projection, complement, pair_differences
from fairbench.errors import UserError
from fairbench.intervention import DrawClass, FitContext, Intervention
from fairbench.models.hooks import Conditioning, Hooks
from fairbench.models.text_to_image import TextToImage

PERSON = "a photo of a person"


class DebiasVL:
    r"""Shrink the differences between the classes of a prompt, in all rows of the conditional embedding.

    With :math:`z_{ik}` the hidden state of the end token, of length 1, of training prompt i in class k:

    .. math:: c' = P c, \qquad P = P_0\, (I + \lambda M)^{-1}, \qquad
              M = \frac{1}{|S|} \sum_{(ij, ik) \in S} (z_{ij} - z_{ik}) (z_{ij} - z_{ik})^T

    over all pairs of classes of a prompt. :math:`P_0 = I - V (V^T V)^{-1} V^T` takes the embeddings V of "a
    photo of a {class} person" out. The authors' code for generation leaves it out, and so does the default.

    Source: arXiv 2302.00070.

    Limits: it makes the classes of an *embedding* alike, which does not make images half and half: all of
    them may move to one side. What tells the classes apart is sent to zero, and nothing says that zero lies
    in the middle between them: on `portraits` the end token of a female prompt lies at -5.5 of that direction
    and of a male one at 4.4, later rows at -4.9 and 2.9, so zero is on the male side. It cannot
    aim at a ratio, so the target must be uniform. :math:`P_0` removes what the class prompts have in common
    with every other prompt as well. Cost: that of the original, 2 U-Net rows per image and step. SDXL is not
    supported.
    """

    name: ClassVar[str] = "debias_vl"
    draw_class: ClassVar[DrawClass] = "emergent"
    supports: ClassVar[tuple[str, ...] | None] = None
    neutral: ClassVar[dict[str, Any]] = {"strength": 0}

    class Config(BaseModel):
        """Settings; those of the authors' code for generation."""

        model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

        updates: int = 0
        strength: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 500
        """How much the differences are shrunk; lambda."""
        orthogonal: bool = False
        """Whether the embeddings of the classes are projected out as well; P_0."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def check_task(
        self, model: TextToImage, space: AttributeSpace, target: TargetDistribution, prompts: Sequence[str]
    ) -> None:
        """Raise a ``UserError`` where the target is not uniform."""
        if not target.is_uniform:
            raise UserError(f"{self.name} cannot aim at a ratio: leave --target out, or use a drawn method")

    def check_fit(self, context: FitContext) -> None:
        """Raise a ``UserError`` where a class cannot be written into a training prompt."""
        check_training_prompts(context)

    def fit(self, context: FitContext) -> Intervention:
        """Solve for the projection."""
        model, space = context.model, context.space
        texts = class_texts([prompt.text for prompt in context.prompts], space)
        states = sentence_embeddings(model, [text for row in texts for text in row])
        differences = pair_differences(states.unflatten(0, (-1, space.size)))
        projection = calibrated_projection(differences, self.config.strength)
        if self.config.orthogonal:
            projection = complement(sentence_embeddings(model, class_texts([PERSON], space)[0])) @ projection
        settings = self.config.model_dump(mode="json", exclude={"updates"})
        return Intervention(self.name, self.draw_class, {"projection": projection.float().cpu()}, settings)

    @contextmanager
    def apply(self, intervention: Intervention, model: TextToImage, draw: Draw) -> Iterator[Hooks]:
        """Project the conditional embeddings."""

        def embed(conditioning: Conditioning, prompts: Sequence[str], seeds: Sequence[int]) -> Conditioning:
            given = conditioning.conditional
            return replace(conditioning, conditional=given @ intervention.tensors["projection"].to(given).T)

        yield Hooks(embed=embed)
