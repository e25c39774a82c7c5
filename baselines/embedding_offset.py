"""The simplest thing that could work: take the mean difference between the classes out of the embeddings.

A floor for cleverness: what does not beat this need not be more complicated.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Annotated, Any, ClassVar

import torch
from pydantic import BaseModel, ConfigDict, Field

from fairbench.draws import Draw
from fairbench.editing.class_prompts import check_training_prompts, class_embeddings
from fairbench.editing.linear import orthonormal
from fairbench.intervention import DrawClass, FitContext, Intervention
from fairbench.models.hooks import Conditioning, Hooks
from fairbench.models.text_to_image import TextToImage


class EmbeddingOffset:
    r"""Move every prompt's embedding, along the differences of the class means only, to between the classes.

    With :math:`m_k` the mean embedding (all L x D numbers of it) of the training prompts of class k, V an
    orthonormal basis of the differences :math:`m_j - m_k`, and t the target:

    .. math:: c' = c - s\, V V^T \Big(c - \sum_k t_k m_k\Big)

    Source: fairbench; the plainest form of arXiv 2302.00070.

    Limits: the middle between two embeddings need not be the embedding of a balanced mixture, and all images
    of a prompt move alike, so they may all move across. Cost: that of the original, 2 U-Net rows per image
    and step. SDXL is not supported.
    """

    name: ClassVar[str] = "embedding_offset"
    draw_class: ClassVar[DrawClass] = "emergent"
    supports: ClassVar[tuple[str, ...] | None] = None
    neutral: ClassVar[dict[str, Any]] = {"strength": 0}

    class Config(BaseModel):
        """Settings."""

        model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

        updates: int = 0
        strength: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1
        """Share of the way; s."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def check_fit(self, context: FitContext) -> None:
        """Raise a ``UserError`` where a class cannot be written into a training prompt."""
        check_training_prompts(context)

    def fit(self, context: FitContext) -> Intervention:
        """Find the differences of the class means and the point between them."""
        prompts = [prompt.text for prompt in context.prompts]
        means = class_embeddings(context.model, prompts, context.space).mean(0)
        weights = torch.tensor(context.target.joint(context.space.names)).to(means)
        basis = orthonormal((means[1:] - means[:1]).flatten(1)).to(means).unflatten(1, means.shape[1:])
        tensors = {"basis": basis.cpu(), "middle": torch.tensordot(weights, means, 1).cpu()}
        return Intervention(self.name, self.draw_class, tensors, {"strength": self.config.strength})

    @contextmanager
    def apply(self, intervention: Intervention, model: TextToImage, draw: Draw) -> Iterator[Hooks]:
        """Move the conditional embeddings."""
        strength = intervention.settings["strength"]

        def embed(conditioning: Conditioning, prompts: Sequence[str], seeds: Sequence[int]) -> Conditioning:
            given = conditioning.conditional
            basis, middle = (intervention.tensors[name].to(given) for name in ("basis", "middle"))
            along = torch.einsum("nld,rld->nr", given - middle, basis)
            return replace(
                conditioning, conditional=given - strength * torch.einsum("nr,rld->nld", along, basis)
            )

        yield Hooks(embed=embed)
