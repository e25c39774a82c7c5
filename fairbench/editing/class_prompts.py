"""Every prompt in every class, and its embeddings: what closed-form methods learn from."""

from collections.abc import Sequence

import torch
from torch import Tensor

from fairbench.attributes import AttributeSpace
from fairbench.errors import UserError
from fairbench.intervention import FitContext
from fairbench.models.text_to_image import TextToImage
from fairbench.models.tokens import check_words, end_rows
from fairbench.wording import class_words, described

BATCH = 64


def class_texts(prompts: Sequence[str], space: AttributeSpace) -> list[list[str]]:
    """Return the text of every class for each of n prompts, n lists of K."""
    return [[described(prompt, space, k) for k in range(space.size)] for prompt in prompts]


def check_class_prompts(model: TextToImage, space: AttributeSpace, prompts: Sequence[str]) -> None:
    """Raise a ``UserError`` unless every class can be written into every prompt, in words of ``model``."""
    check_words(model, {word for words in class_words(space) for word in words.split()})
    for texts in class_texts(prompts, space):
        model.tokens(texts)


def check_training_prompts(context: FitContext) -> None:
    """Raise a ``UserError`` unless there are training prompts that every class can be written into."""
    if not context.prompts:
        raise UserError(
            "there are no training prompts to learn the classes from: train on another suite, "
            "then measure with fairbench evaluate RUN --suite SUITE"
        )
    check_class_prompts(context.model, context.space, [prompt.text for prompt in context.prompts])


@torch.no_grad()
def embeddings(model: TextToImage, texts: Sequence[str]) -> Tensor:
    """Return the hidden states of N texts, N x L x D, float32, a few texts at a time."""
    parts = [texts[start : start + BATCH] for start in range(0, len(texts), BATCH)]
    return torch.cat([model.encode(part).conditional.float() for part in parts])


def class_embeddings(model: TextToImage, prompts: Sequence[str], space: AttributeSpace) -> Tensor:
    """Return the hidden states of n prompts in each of K classes, n x K x L x D."""
    texts = class_texts(prompts, space)
    return embeddings(model, [text for row in texts for text in row]).unflatten(0, (-1, space.size))


def sentence_embeddings(model: TextToImage, texts: Sequence[str]) -> Tensor:
    """Return the hidden state of the end token of N texts, scaled to length 1, N x D."""
    states = embeddings(model, texts)[torch.arange(len(texts)), end_rows(model, texts)]
    return torch.nn.functional.normalize(states, dim=1)
