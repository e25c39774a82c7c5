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
from fairbench.storage import atomic_write_tensors, read_tensors
from fairbench.suites import Prompt
from fairbench.wording import class_words, substituted

Scale = Annotated[float, Field(ge=0, allow_inf_nan=False)]
HISTORY = "shares.safetensors"


class UCE:
    r"""Give every concept a new key and value, nearer to the classes that its images lack.

    With :math:`c_i` the hidden states of the concepts to edit, :math:`c_j` those to preserve, :math:`a_k`
    those of the class words in the same place, and :math:`r_{ik}` the measured shares, for every key and
    value matrix:

    .. math:: W' &= \Big(\lambda W + \sum_i v_i c_i^T + \eta \sum_j W c_j c_j^T\Big)
                    \Big(\lambda I + \sum_i c_i c_i^T + \eta \sum_j c_j c_j^T\Big)^{-1} \\
              v_i &= v_{iK}, \qquad v_{i0} = W c_i, \qquad \alpha_{ik} = \rho\, (t_k - r_{ik}), \\
              v_{ik} &= v_{i,k-1} + \alpha_{ik} \lVert v_{i,k-1} \rVert \frac{W a_k}{\lVert W a_k \rVert}

    in turns until :math:`|t_k - r_{ik}|` is below the tolerance for all i and k. That is ``edition=paper``: W
    is what the last turn left, a concept is its prompt's rows from the last token of the concept on, as many
    as it and all its classes have up to the end (norms are over all of them), and what is preserved is all
    rows of the other prompts. A concept within the tolerance stays where it is (:math:`\alpha_i = 0`), is
    preserved too, and is not counted again.

    ``edition=revised``, the authors' of 2025, always starts from the original W, edits and preserves the last
    token only, counts every concept in every turn, and :math:`v_i = W c_i + \sum_k A_{ik} W a_k` with
    :math:`A_{ik}` the sum of :math:`\alpha_{ik}` over the turns. Its released step size of 0.1 is never used
    there; here the step size is what it says, and 1 does what that code does.

    Source: arXiv 2308.14761. Ratios come from the training judge instead of CLIP, prompts from the suite, one
    of each concept instead of five.

    Limits: concepts that are not edited change only through what they share with those that are. Editing very
    many damages the model. Shares of few images are noisy, so the tolerance is met by chance as well.
    Cost: 2 U-Net rows per image and step, as the original, and up to updates x concepts x images_per_concept
    images to fit. SDXL is not supported.
    """

    name: ClassVar[str] = "uce"
    draw_class: ClassVar[DrawClass] = "emergent"
    supports: ClassVar[tuple[str, ...] | None] = None
    neutral: ClassVar[dict[str, Any]] = {"step_size": 0}
    quick: ClassVar[dict[str, Any]] = {"concepts": 2, "images_per_concept": 4, "updates": 2}

    class Config(BaseModel):
        """Settings; those of the authors' code, apart from its 50 images and 30 turns."""

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
        target = torch.tensor(context.target.joint(context.space.names))
        weights = originals = key_value_weights(model)
        total = torch.zeros(len(chosen), len(target), dtype=torch.float64)
        counted = _restored(context.directory)
        done = torch.zeros(len(chosen), dtype=torch.bool)
        for turn in range(context.updates):
            if turn == len(counted):
                with replaced_weights(model, weights):
                    counted.append(self._count(context, chosen, counted, done & paper))
                atomic_write_tensors(context.directory / HISTORY, {"shares": torch.stack(counted)}, {})
            if context.log({"update": turn + 1, "gap": mean_gap(counted[turn])}):
                break  # also when it was counted before an interruption: the log forgets that it asked
            missing = target - counted[turn]
            done = (missing.abs() < config.tolerance).all(1)
            if done.all():
                break
            step = self.step_size * missing.masked_fill(done.unsqueeze(1), 0)
            total += step
            reached = [prompt for prompt, there in zip(chosen, done, strict=True) if there]
            weights = concept_edit(
                weights if paper else originals,
                rows,
                kept_rows(model, others + reached if paper else others, whole=paper),
                step if paper else total,
                config.regularisation,
                self.preserve,
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

    def _count(
        self, context: FitContext, prompts: Sequence[Prompt], earlier: Sequence[Tensor], known: Tensor
    ) -> Tensor:
        """Return the shares of n prompts in this turn; those that are ``known`` are the last turn's."""
        images = self.config.images_per_concept
        asked = [prompt for prompt, skip in zip(prompts, known, strict=True) if not skip]
        found = class_shares(context, asked, images, len(earlier) * images)
        if len(asked) == len(prompts):
            return found
        return earlier[-1].index_put((~known,), found)


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
    """Return the rows of n prompts: the last token of the concept alone or, ``whole``, what follows it, too.

    That is up to the end; where a class has its last token further back, as many rows less.
    """
    concepts, words = [prompt.concept for prompt in prompts], class_words(space)
    texts = [prompt.text for prompt in prompts]
    variants = [[substituted(prompt.text, prompt.concept, word) for prompt in prompts] for word in words]
    start = last_rows(model, texts, concepts)
    starts = [last_rows(model, row, [word] * len(row)) for row, word in zip(variants, words, strict=True)]
    states, classes = embeddings(model, texts), [embeddings(model, row) for row in variants]
    keys, found, owner = [], [], []
    for i in range(len(prompts)):
        farthest = max(int(at[i]) for at in (start, *starts))
        offsets = torch.arange(states.shape[1] - farthest if whole else 1)
        keys.append(states[i, start[i] + offsets])
        found.append(
            torch.stack([state[i, at[i] + offsets] for state, at in zip(classes, starts, strict=True)], 1)
        )
        owner.append(torch.full((len(offsets),), i))
    return SubjectRows(torch.cat(keys), torch.cat(found), torch.cat(owner))


def kept_rows(model: TextToImage, prompts: Sequence[Prompt], *, whole: bool) -> Tensor:
    """Return what is to stay of n prompts, p x D: all rows, or the last one of the concept only."""
    if not prompts:
        return embeddings(model, [""])[0, :0]
    texts = [prompt.text for prompt in prompts]
    states = embeddings(model, texts)
    if whole:
        return states.flatten(0, 1)
    last = last_rows(model, texts, [prompt.concept for prompt in prompts])
    return states[torch.arange(len(prompts)), last]


def concept_edit(
    weights: dict[str, Tensor],
    rows: SubjectRows,
    kept: Tensor,
    amounts: Tensor,
    regularisation: float,
    preserve: float,
    *,
    relative: bool,
) -> dict[str, Tensor]:
    r"""Move the rows of n concepts by ``amounts`` (n x K) of the class directions; p x D ``kept`` stay.

    ``relative`` gives every direction of a concept the length of what it is added to; else they are
    :math:`W a_k` as they are. What is kept has the weight ``preserve``, what is moved has 1.
    """

    def values(weight: Tensor) -> Tensor:
        moved = rows.keys.double() @ weight.T
        for direction, amount in zip(rows.classes.double().unbind(1), amounts.to(moved).T, strict=True):
            change = direction @ weight.T
            if relative:
                amount = amount * lengths_of(moved, rows.owner) / lengths_of(change, rows.owner)
            moved = moved + amount[rows.owner].unsqueeze(1) * change
        return torch.cat([moved, kept.double() @ weight.T])

    importance = torch.ones(len(rows.keys) + len(kept), dtype=torch.float64, device=kept.device)
    importance[len(rows.keys) :] = preserve
    return edited(weights, torch.cat([rows.keys, kept]), values, regularisation, importance)


def lengths_of(rows: Tensor, owner: Tensor) -> Tensor:
    """Return the norm over all rows of each of n owners, shape (n,), from m x D."""
    squares = rows.square().sum(1)
    total = squares.new_zeros(int(owner.max()) + 1)
    return total.index_add(0, owner.to(rows.device), squares).sqrt()


def mean_gap(shares: Tensor) -> float:
    """Return the mean over n prompts and all pairs of K classes of the difference of their shares."""
    pairs = list(combinations(range(shares.shape[1]), 2))
    return float(torch.stack([(shares[:, j] - shares[:, k]).abs() for j, k in pairs]).mean())


def _restored(directory: Path) -> list[Tensor]:
    """Return the shares of every turn that an interrupted fit had counted."""
    path = directory / HISTORY
    return list(read_tensors(path)["shares"]) if path.is_file() else []
