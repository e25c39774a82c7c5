"""Further words for a text encoder, each made of learned vectors; the model is as before afterwards.

A word of q vectors is q tokens, named as in a textual inversion: ``<word>``, ``<word>_1``, ``<word>_2`` ...
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from fairbench.models.text_to_image import TextToImage


class _Extended(nn.Module):
    """Looks the known tokens up in ``known``, and those after them in what ``vectors()`` returns."""

    def __init__(self, known: nn.Embedding, vectors: Callable[[], Tensor]) -> None:
        super().__init__()
        self.known, self.vectors = known, vectors

    def forward(self, tokens: Tensor) -> Tensor:
        count = self.known.num_embeddings
        found = self.known(tokens.clamp(max=count - 1))
        further = self.vectors().to(found)[(tokens - count).clamp(min=0)]
        return torch.where((tokens < count).unsqueeze(-1), found, further)


@contextmanager
def further_words(
    model: TextToImage, words: Sequence[str], count: int, vectors: Callable[[], Tensor]
) -> Iterator[None]:
    """Let the prompts of ``model`` contain ``words`` for as long as the context lasts.

    Parameters
    ----------
    model : TextToImage
    words : W of them
        None may be a token already.
    count
        How many vectors make a word.
    vectors
        Returns W * count x D vectors, word after word; called at every pass of the text encoder, and
        gradients reach what it returns.
    """
    pipeline: Any = model.pipeline
    tokenizer, known = pipeline.tokenizer, pipeline.text_encoder.get_input_embeddings()
    extended = copy.deepcopy(tokenizer)
    tokens = [f"{word}_{number}" if number else word for word in words for number in range(count)]
    added = extended.add_tokens(tokens)
    if added != len(tokens) or extended.convert_tokens_to_ids(tokens[0]) != known.num_embeddings:
        raise RuntimeError("the tokenizer holds other words than the text encoder, or one of these already")
    pipeline.tokenizer = extended
    pipeline.text_encoder.set_input_embeddings(_Extended(known, vectors))
    try:
        yield
    finally:
        pipeline.tokenizer = tokenizer
        pipeline.text_encoder.set_input_embeddings(known)
