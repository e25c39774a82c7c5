"""TIME, arXiv 2303.08084: edit cross-attention so that a prompt is read as if it named the class it lacks.

"a nurse" gets the keys and values of "a male nurse".
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, ClassVar

import torch
from pydantic import BaseModel, ConfigDict, Field, PositiveInt
from torch import Tensor

from fairbench.draws import Draw
from fairbench.editing.attention import edited, key_value_weights
from fairbench.editing.class_prompts import check_training_prompts, embeddings
from fairbench.editing.shares import class_shares, spread
from fairbench.intervention import DrawClass, FitContext, Intervention
from fairbench.models.hooks import Hooks
from fairbench.models.text_to_image import TextToImage
from fairbench.models.tokens import end_rows
from fairbench.models.weights import replaced_weights
from fairbench.wording import described


class TimeEdit:
    r"""Give every token of a prompt the key and value that it has in the prompt of its rarest class.

    With :math:`c_l` the hidden states of the prompt and :math:`c'_l` those of the same tokens in the prompt
    that names the class, for every key and value matrix:

    .. math:: W' = \Big(\lambda W + \tfrac{1}{n} \sum_l W c'_l c_l^T\Big)
                   \Big(\lambda I + \tfrac{1}{n} \sum_l c_l c_l^T\Big)^{-1}

    over the tokens of n training prompts. The class is the one that the training judge misses most in images
    of the original model, which is the anti-stereotype of the source; a prompt that misses none is left out.
    Inserted words are skipped and padding is shifted with the text, its last row standing for those that are
    shifted out; "a" and "an" are one token.

    Source: arXiv 2303.08084, which edits one prompt per model and tunes lambda, the only knob (smaller is
    stronger), for each; here one model has to serve all prompts, so the mean is over all of them.

    Limits: with one lambda for all, some prompts cross over while others hardly move, and edits in opposite
    directions cancel in what the prompts share. Cost: 2 U-Net rows per image and step, as the original, and
    concepts x images_per_concept images to fit. SDXL is not supported.
    """

    name: ClassVar[str] = "time_edit"
    draw_class: ClassVar[DrawClass] = "emergent"
    supports: ClassVar[tuple[str, ...] | None] = None
    neutral: ClassVar[dict[str, Any]] = {"regularisation": 1e12}
    quick: ClassVar[dict[str, Any]] = {"concepts": 2, "images_per_concept": 4}

    class Config(BaseModel):
        """Settings; that of the source, and how much is counted."""

        model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

        updates: int = 0
        regularisation: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.1
        """How strongly matrices are held; lambda. Smaller is stronger."""
        concepts: PositiveInt = 35
        """How many training prompts are edited, evenly from the whole list."""
        images_per_concept: PositiveInt = 16
        """Counted to find the class that a prompt misses most."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def check_fit(self, context: FitContext) -> None:
        """Raise a ``UserError`` where a class cannot be written into a training prompt."""
        check_training_prompts(context)

    def fit(self, context: FitContext) -> Intervention:
        """Count, choose the class of every prompt, and solve."""
        config, model = self.config, context.model
        prompts = spread(context.prompts, config.concepts)
        shares = class_shares(context, prompts, config.images_per_concept)
        most, rarest = (torch.tensor(context.target.joint(context.space.names)) - shares).max(1)
        edits = {
            prompt.text: described(prompt.text, context.space, int(k))
            for prompt, k, missing in zip(prompts, rarest, most, strict=True)
            if missing > 0
        }
        weights = time_weights(model, [*edits], [*edits.values()], config.regularisation)
        tensors = {name: weight.cpu().contiguous() for name, weight in weights.items()}
        settings = config.model_dump(mode="json", exclude={"updates"}) | {"edits": edits}
        return Intervention(self.name, self.draw_class, tensors, settings)

    @contextmanager
    def apply(self, intervention: Intervention, model: TextToImage, draw: Draw) -> Iterator[Hooks]:
        """Put the edited matrices in for as long as the context lasts."""
        with replaced_weights(model, intervention.tensors):
            yield Hooks()


def time_weights(
    model: TextToImage, old: Sequence[str], new: Sequence[str], regularisation: float
) -> dict[str, Tensor]:
    """Return the key and value matrices with which n ``old`` prompts are read like the ``new`` ones."""
    if not old:
        return key_value_weights(model)
    tokens = one_article(model, model.tokens(old)), one_article(model, model.tokens(new))
    ends = end_rows(model, old), end_rows(model, new)
    states = embeddings(model, old), embeddings(model, new)
    keys, sources = [], []
    for i in range(len(old)):
        before, after = aligned_rows(tokens[0][i], tokens[1][i], int(ends[0][i]), int(ends[1][i]))
        keys.append(states[0][i, before])
        sources.append(states[1][i, after])
    key, source = torch.cat(keys), torch.cat(sources)
    importance = torch.full((len(key),), 1 / len(old), dtype=torch.float64, device=key.device)
    return edited(key_value_weights(model), key, lambda w: source.double() @ w.T, regularisation, importance)


def one_article(model: TextToImage, tokens: Tensor) -> Tensor:
    """Return ``tokens`` with the one of "a" for that of "an", where the tokenizer has one for each."""
    tokenizer = model.pipeline.tokenizer
    a, an = (tokenizer(word, add_special_tokens=False).input_ids for word in ("a", "an"))
    return tokens.where(tokens != an[0], a[0]) if len(a) == len(an) == 1 else tokens


def aligned_rows(old: Tensor, new: Tensor, old_end: int, new_end: int) -> tuple[list[int], list[int]]:
    """Return which rows of L old tokens are which of L new ones, where words were inserted into a text.

    What is the same from the beginning stays in its place; what is the same up to the end token, and the
    padding behind it, is shifted, up to the last row. Whatever differs in between is left out.
    """
    head = 0
    while head < old_end and old[head] == new[head]:
        head += 1
    tail = 0
    while tail < old_end - head and old[old_end - 1 - tail] == new[new_end - 1 - tail]:
        tail += 1
    shifted = range(old_end - tail, len(old))
    last = len(new) - 1
    return [*range(head), *shifted], [*range(head), *(min(row + new_end - old_end, last) for row in shifted)]
