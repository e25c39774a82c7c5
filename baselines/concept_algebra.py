"""Concept algebra, arXiv 2302.03693: swap the part of a noise prediction that speaks of the concept.

The subspace of the concept is found anew for every image and step; a batch never mixes its images.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from fairbench.attributes import AttributeSpace, TargetDistribution
from fairbench.draws import Draw
from fairbench.editing.class_prompts import check_class_prompts
from fairbench.errors import UserError
from fairbench.intervention import DrawClass, FitContext, Intervention
from fairbench.models.hooks import Hooks, Step, classifier_free_guidance
from fairbench.models.text_to_image import TextToImage
from fairbench.wording import described

PERSON = "a photo of the face of a person"


class ConceptAlgebra:
    r"""Replace, in every noise prediction, the component along the attribute by that of another prompt.

    With :math:`\epsilon_k` the prediction for "the face of a {class k} person", :math:`Q` an orthonormal
    basis of the leading directions of the centred :math:`\epsilon_1 \dots \epsilon_K`, and
    :math:`\epsilon_z` that of the reference, per image and step:

    .. math:: \epsilon_p \gets \epsilon_p + \gamma\, Q Q^T (\epsilon_z - \epsilon_p)

    and then classifier-free guidance. For two classes :math:`Q` is the one direction
    :math:`(\epsilon_1 - \epsilon_2) / \lVert \epsilon_1 - \epsilon_2 \rVert`. The reference is the prompt of
    the drawn class, or one without a class (``reference=neutral``), which leaves the choice to the model.

    Source: arXiv 2302.03693, the binary and the general case. The authors' code takes norm and inner product
    over the whole batch; here they are taken per image.

    Limits: one more U-Net row per class (and one for a neutral reference), so 2 + K instead of 2. What the
    class prompts do not tell apart in one step is not changed in it. On the validation occupations of
    `portraits` the gender gap goes to zero and the occupation is recognised in .84 of the images. SDXL is
    not supported.
    """

    name: ClassVar[str] = "concept_algebra"
    draw_class: DrawClass = "drawn"
    supports: ClassVar[tuple[str, ...] | None] = None
    neutral: ClassVar[dict[str, Any]] = {"strength": 0}

    class Config(BaseModel):
        """Settings; those of the source."""

        model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

        updates: int = 0
        strength: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1
        """How much of the component is replaced; 1 is all of it."""
        variance: Annotated[float, Field(gt=0, le=1)] = 0.9
        """Share of the variance of the class predictions that the subspace has to hold."""
        reference: Literal["drawn", "neutral"] = "drawn"
        """What the component is replaced by."""

    def __init__(self, config: Config) -> None:
        self.config = config
        if config.reference == "neutral":
            self.draw_class = "emergent"

    def check_task(
        self, model: TextToImage, space: AttributeSpace, target: TargetDistribution, prompts: Sequence[str]
    ) -> None:
        """Raise a ``UserError`` where the tokenizer lacks a word, or nothing aims at the target."""
        if self.config.reference == "neutral" and not target.is_uniform:
            raise UserError(
                f"{self.name} aims at a ratio only with reference=drawn: leave --target out, or set it"
            )
        check_class_prompts(model, space, [PERSON])

    def fit(self, context: FitContext) -> Intervention:
        """Write down the prompts of the classes; there is nothing to learn."""
        settings = self.config.model_dump(mode="json", exclude={"updates"})
        classes = [described(PERSON, context.space, k) for k in range(context.space.size)]
        return Intervention(self.name, self.draw_class, {}, settings | {"classes": classes})

    @contextmanager
    def apply(self, intervention: Intervention, model: TextToImage, draw: Draw) -> Iterator[Hooks]:
        """Predict the noise of the class prompts beside each image's own, and combine them."""
        settings = intervention.settings
        drawn = settings["reference"] == "drawn"
        prompts = [*settings["classes"], *([] if drawn else [PERSON])]

        def branches(_: Sequence[str], seeds: Sequence[int]) -> list[list[str]]:
            return [[prompt] * len(seeds) for prompt in prompts]

        def combine(
            unconditional: Tensor, conditional: Tensor, guidance: float, step: Step, _: Tensor, *more: Tensor
        ) -> Tensor:
            concepts = torch.stack(more[: len(settings["classes"])], 1)
            reference = concepts[torch.arange(len(concepts)), draw(step.seeds)] if drawn else more[-1]
            basis = subspace(concepts, settings["variance"])
            moved = exchanged(conditional, reference, basis, settings["strength"])
            return classifier_free_guidance(unconditional, moved, guidance)

        yield Hooks(branches=branches, combine=combine)


def subspace(concepts: Tensor, variance: float) -> Tensor:
    """Return an orthonormal basis of what tells K predictions apart, N x K x D, for each of N images.

    Rows beyond the directions that hold ``variance`` of the sum of squares are zero; ``concepts`` is
    N x K x C x h x w, D = C h w.
    """
    centred = (concepts - concepts.mean(1, keepdim=True)).flatten(2)
    _, values, basis = torch.linalg.svd(centred, full_matrices=False)
    energy = values.square()
    before = energy.cumsum(1) - energy
    rounding = 1e-5 * concepts.flatten(1).norm(dim=1, keepdim=True)  # no direction at all
    kept = (before < variance * energy.sum(1, keepdim=True)) & (values > rounding)
    return basis * kept.unsqueeze(2)


def exchanged(prediction: Tensor, reference: Tensor, basis: Tensor, strength: float) -> Tensor:
    r"""Return :math:`\epsilon + \gamma QQ^T(\epsilon_z - \epsilon)` for N images, N x C x h x w."""
    difference = (reference - prediction).flatten(1).unsqueeze(2)
    change = (basis.mT @ (basis @ difference)).squeeze(2)
    return prediction + strength * change.reshape(prediction.shape)
