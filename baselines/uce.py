"""Unified concept editing, arXiv 2308.14761: edit cross-attention until every concept shows the target ratio.

In turns: generate and count with the training judge, move every concept towards the classes that it lacks.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import torch
from pydantic import BaseModel, ConfigDict, Field, PositiveInt
from safetensors.torch import load_file
from torch import Tensor

from fairbench.attributes import AttributeSpace, TargetDistribution
from fairbench.draws import Draw
from fairbench.editing.attention import edited, key_value_weights
from fairbench.editing.class_prompts import embeddings
from fairbench.editing.shares import class_shares, spread
from fairbench.intervention import DrawClass, FitContext, Intervention
from fairbench.models.hooks import Hooks
from fairbench.models.text_to_image import TextToImage
from fairbench.models.tokens import check_words, last_rows
from fairbench.models.weights import replaced_weights
from fairbench.storage import atomic_write_tensors
from fairbench.suites import Prompt
from fairbench.wording import class_words, substituted

Scale = Annotated[float, Field(ge=0, allow_inf_nan=False)]
HISTORY = "shares.safetensors"


class UCE:
    r"""Give every concept a new key and value, nearer to the classes that its images lack.

    With :math:`c_i` the hidden states of the concepts to edit, :math:`c_j` those to preserve, :math:`a_k`
    those of the class words in the same place, and :math:`r_{ik}` the measured shares, for every key and
    value matrix:

    .. math:: W' &= \Big(\lambda W + \eta_e \sum_i v_i c_i^T + \eta_p \sum_j W c_j c_j^T\Big)
                    \Big(\lambda I + \eta_e \sum_i c_i c_i^T + \eta_p \sum_j c_j c_j^T\Big)^{-1} \\
              v_i &= W c_i + \sum_k \alpha_{ik} \lVert W c_i \rVert \frac{W a_k}{\lVert W a_k \rVert},
                     \qquad \alpha_{ik} = \rho\, (t_k - r_{ik})

    in turns until :math:`|t_k - r_{ik}|` is below the tolerance for all i and k. That is ``edition=paper``: W
    is what the last turn left, rows go from the last token of the concept to the end, and a concept within
    the tolerance is preserved. ``edition=revised``, the authors' of 2025, always starts from the original W,
    edits the last token only, and :math:`v_i = W c_i + \sum_k A_{ik} W a_k` with :math:`A_{ik}` the sum of
    :math:`\alpha_{ik}` over the turns. Its released step size of 0.1 is never used there; here the step size
    is what it says, and 1 does what that code does.

    Source: arXiv 2308.14761. Ratios come from the training judge instead of CLIP, prompts from the suite.

    Limits: concepts that are not edited change only through what they share with those that are. Editing very
    many damages the model. Shares of few images are noisy, so the tolerance is met by chance as well,
    and hardly ever by all concepts at once: expect all turns.
    Cost: 2 U-Net rows per image and step, as the original, and up to updates x concepts x images_per_concept
    images to fit. SDXL is not supported.
    """

    name: ClassVar[str] = "uce"
    draw_class: ClassVar[DrawClass] = "emergent"
    supports: ClassVar[tuple[str, ...] | None] = None
    neutral: ClassVar[dict[str, Any]] = {"step_size": 0}
    quick: ClassVar[dict[str, Any]] = {"concepts": 2, "images_per_concept": 4, "updates": 2}

    class Config(BaseModel):
        """Settings; those of the authors' code, apart from the number of images."""

        model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

        updates: PositiveInt = 10
        """Turns at most."""
        edition: Literal["paper", "revised"] = "paper"
        """Whose rules: the paper's, or those of the authors' code of 2025."""
        concepts: PositiveInt = 35
        """How many training prompts are edited, evenly from the whole list; the others are preserved."""
        images_per_concept: PositiveInt = 24
        """Counted in every turn."""
        tolerance: Annotated[float, Field(gt=0, lt=1)] = 0.05
        """A concept whose shares are all this near to the target is done."""
        step_size: Scale | None = None
        """How far a missing share moves a concept; if None 0.1, or 1 in the revised edition."""
        regularisation: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.5
        """How strongly matrices are held; lambda."""
        preserve: Scale | None = None
        """Weight of what is preserved; if None 0.1, or 1 in the revised edition."""

    def __init__(self, config: Config) -> None:
        default = 0.1 if config.edition == "paper" else 1.0
        self.config = config
        self.step_size = default if config.step_size is None else config.step_size
        self.preserve = default if config.preserve is None else config.preserve

    def check_task(
        self, model: TextToImage, space: AttributeSpace, target: TargetDistribution, prompts: Sequence[str]
    ) -> None:
        """Raise a ``UserError`` where the model has no word for a class."""
        check_words(model, {word for words in class_words(space) for word in words.split()})

    def fit(self, context: FitContext) -> Intervention:
        """Count and edit in turns; an interrupted fit counts again only what it had not counted."""
        config, model = self.config, context.model
        chosen = spread(context.prompts, config.concepts)
        others = [prompt for prompt in context.prompts if prompt not in chosen]
        paper = config.edition == "paper"
        rows = subject_rows(model, chosen, context.space, whole=paper)
        kept = subject_rows(model, others, context.space, whole=paper).keys if others else rows.keys[:0]
        target = torch.tensor(context.target.joint(context.space.names))
        weights = originals = key_value_weights(model)
        total = torch.zeros(len(chosen), len(target), dtype=torch.float64)
        counted = _restored(context.directory)
        for turn in range(context.updates):
            if turn == len(counted):
                with replaced_weights(model, weights):
                    first = turn * config.images_per_concept
                    counted.append(class_shares(context, chosen, config.images_per_concept, first))
                atomic_write_tensors(context.directory / HISTORY, {"shares": torch.stack(counted)}, {})
            if context.log({"update": turn + 1, "gap": mean_gap(counted[turn])}):
                break  # also when it was counted before an interruption: the log forgets that it asked
            missing = target - counted[turn]
            done = (missing.abs() < config.tolerance).all(1)
            if done.all():
                break
            step = self.step_size * missing.masked_fill(done.unsqueeze(1), 0)
            total += step
            importance = torch.ones(len(rows.keys), dtype=torch.float64)
            if paper:
                importance[done[rows.owner]] = self.preserve
            weights = concept_edit(
                weights if paper else originals,
                rows,
                kept,
                (step if paper else total)[rows.owner],
                config.regularisation,
                torch.cat([importance, torch.full((len(kept),), self.preserve, dtype=torch.float64)]),
                relative=paper,
            )
        tensors = {name: weight.cpu().contiguous() for name, weight in weights.items()}
        settings = config.model_dump(mode="json", exclude={"updates"})
        settings |= {"step_size": self.step_size, "preserve": self.preserve, "turns": len(counted)}
        return Intervention(self.name, self.draw_class, tensors, settings)

    @contextmanager
    def apply(self, intervention: Intervention, model: TextToImage, draw: Draw) -> Iterator[Hooks]:
        """Put the edited matrices in for as long as the context lasts."""
        with replaced_weights(model, intervention.tensors):
            yield Hooks()


class SubjectRows(NamedTuple):
    """Hidden states from the subject on; m rows in all."""

    keys: Tensor
    """m x D."""
    classes: Tensor
    """What stands there when a class takes the place of the subject, m x K x D."""
    owner: Tensor
    """The number of the prompt that a row belongs to, m."""


def subject_rows(
    model: TextToImage, prompts: Sequence[Prompt], space: AttributeSpace, *, whole: bool
) -> SubjectRows:
    """Return the rows of n prompts: from the last token of the concept to the end, or that one row only."""
    concepts, words = [prompt.concept for prompt in prompts], class_words(space)
    texts = [prompt.text for prompt in prompts]
    variants = [[substituted(prompt.text, prompt.concept, word) for prompt in prompts] for word in words]
    start = last_rows(model, texts, concepts)
    starts = [last_rows(model, row, [word] * len(row)) for row, word in zip(variants, words, strict=True)]
    states, classes = embeddings(model, texts), [embeddings(model, row) for row in variants]
    last = states.shape[1] - 1
    keys, found, owner = [], [], []
    for i in range(len(prompts)):
        offsets = torch.arange(last - int(start[i]) + 1 if whole else 1)
        keys.append(states[i, start[i] + offsets])
        aligned = [
            state[i, (at[i] + offsets).clamp(max=last)] for state, at in zip(classes, starts, strict=True)
        ]
        found.append(torch.stack(aligned, 1))
        owner.append(torch.full((len(offsets),), i))
    return SubjectRows(torch.cat(keys), torch.cat(found), torch.cat(owner))


def concept_edit(
    weights: dict[str, Tensor],
    rows: SubjectRows,
    kept: Tensor,
    amounts: Tensor,
    regularisation: float,
    importance: Tensor,
    *,
    relative: bool,
) -> dict[str, Tensor]:
    r"""Move m rows by ``amounts`` (m x K) of the class directions and keep the others where they are.

    ``relative`` gives the directions the length of what is moved, :math:`\lVert W c \rVert`; else they are
    :math:`W a_k` as they are. ``kept`` is p x D, ``importance`` m + p.
    """

    def values(weight: Tensor) -> Tensor:
        own, directions = rows.keys.double() @ weight.T, rows.classes.double() @ weight.T
        if relative:
            directions = torch.nn.functional.normalize(directions, dim=2) * own.norm(dim=1)[:, None, None]
        moved = own + torch.einsum("mk,mko->mo", amounts.to(own), directions)
        return torch.cat([moved, kept.double() @ weight.T])

    return edited(weights, torch.cat([rows.keys, kept]), values, regularisation, importance.to(kept.device))


def mean_gap(shares: Tensor) -> float:
    """Return the mean over n prompts and all pairs of K classes of the difference of their shares."""
    pairs = list(combinations(range(shares.shape[1]), 2))
    return float(torch.stack([(shares[:, j] - shares[:, k]).abs() for j, k in pairs]).mean())


def _restored(directory: Path) -> list[Tensor]:
    """Return the shares of every turn that an interrupted fit had counted."""
    path = directory / HISTORY
    return list(load_file(path)["shares"]) if path.is_file() else []
