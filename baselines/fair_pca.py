"""FairImagen, arXiv 2510.21363: keep the directions that say nothing of the class, and draw the rest.

What the projection took out is given back from a random training prompt of the drawn class.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from fairbench.attributes import AttributeSpace, TargetDistribution
from fairbench.draws import Draw
from fairbench.editing.class_prompts import check_training_prompts, class_embeddings
from fairbench.editing.linear import fair_pca, group_directions, orthonormal
from fairbench.errors import UserError
from fairbench.intervention import DrawClass, FitContext, Intervention
from fairbench.models.hooks import Conditioning, Hooks
from fairbench.models.text_to_image import TextToImage

NOISE = 3
"""Keeps the generator that picks the training prompt apart from those of the draws."""


class FairPCA:
    r"""Project the prompt embedding on fair principal components, and add noise of the drawn class.

    With X the token rows of the training prompts in every class, Z the centred indicators of the class, R a
    basis of the null space of :math:`Z^T X`, and U one of its row space:

    .. math:: P = R \cdot \text{leading eigenvectors of } R^T X^T X R, \qquad
              c' = c\, P P^T + s\, x U^T U

    where x is the embedding of a training prompt, drawn uniformly, in the drawn class. The same row of c and
    x is combined.

    Source: arXiv 2510.21363. Its code applies the scale s of the noise twice (0.36 for its 0.6); here it is
    applied once. There the noise is one number for an image, along one direction and the same for all rows;
    here every row gets its own. Of 2048 dimensions it keeps 600 to 1800; by default all are kept here, and
    then :math:`P P^T = I - U^T U`, the plain projection.

    Limits: written for a model with pooled embeddings, which Stable Diffusion 1.x and 2.x do not have; here
    the token rows are all there is. Only differences that are the same for all rows and prompts are replaced.
    Cost: that of the original, 2 U-Net rows per image and step. SDXL is not supported.
    """

    name: ClassVar[str] = "fair_pca"
    draw_class: ClassVar[DrawClass] = "drawn"
    supports: ClassVar[tuple[str, ...] | None] = None
    neutral: ClassVar[dict[str, Any]] = {"strength": 0}

    class Config(BaseModel):
        """Settings."""

        model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

        updates: int = 0
        dimensions: PositiveInt | None = None
        """Principal components kept; all that say nothing of the class if None."""
        noise: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.6
        """Scale of what is given back; s."""
        strength: Annotated[float, Field(ge=0, le=1)] = 1
        """Share of the way from the original embedding to the new one."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def check_task(
        self, model: TextToImage, space: AttributeSpace, target: TargetDistribution, prompts: Sequence[str]
    ) -> None:
        """Raise a ``UserError`` where there are too many dimensions."""
        most = model.pipeline.text_encoder.config.hidden_size - space.size + 1
        if (self.config.dimensions or 1) > most:
            raise UserError(f"dimensions is {self.config.dimensions}: {model.name} leaves at most {most}")

    def check_fit(self, context: FitContext) -> None:
        """Raise a ``UserError`` where a class cannot be written into a training prompt."""
        check_training_prompts(context)

    def fit(self, context: FitContext) -> Intervention:
        """Find the components, and what each training prompt has along the others."""
        prompts = [prompt.text for prompt in context.prompts]
        states = class_embeddings(context.model, prompts, context.space)
        rows, groups = grouped_rows(states)
        kept = fair_pca(rows, groups, self.config.dimensions)
        telling = orthonormal(group_directions(rows, groups))
        tensors = {
            "projection": (kept @ kept.T).float().cpu(),
            "directions": telling.float().cpu(),
            "components": (states.double() @ telling.T).float().cpu(),
        }
        settings = self.config.model_dump(mode="json", exclude={"updates"})
        return Intervention(self.name, self.draw_class, tensors, settings)

    @contextmanager
    def apply(self, intervention: Intervention, model: TextToImage, draw: Draw) -> Iterator[Hooks]:
        """Project the conditional embeddings and add what the drawn class has along the rest."""
        settings, tensors = intervention.settings, intervention.tensors
        count = len(tensors["components"])

        def embed(conditioning: Conditioning, prompts: Sequence[str], seeds: Sequence[int]) -> Conditioning:
            given = conditioning.conditional
            projection, directions, components = (
                tensors[name].to(given) for name in ("projection", "directions", "components")
            )
            examples = [int(np.random.default_rng([NOISE, int(seed)]).integers(count)) for seed in seeds]
            noise = components[torch.tensor(examples), torch.from_numpy(draw(seeds))] @ directions
            fair = given @ projection + settings["noise"] * noise
            return replace(conditioning, conditional=torch.lerp(given, fair, settings["strength"]))

        yield Hooks(embed=embed)


def grouped_rows(states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return n x K x L x D states as (n K L) x D rows, and the class of each row."""
    count, classes, length, _ = states.shape
    groups = torch.arange(classes).repeat_interleave(length).repeat(count)
    return states.flatten(0, 2), groups
