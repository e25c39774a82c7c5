"""Soft tokens that are computed anew at every pass of the text encoder, so that they can be trained."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from fairbench.models.soft_tokens import soft_tokens
from fairbench.models.text_to_image import TextToImage


@contextmanager
def live_tokens(
    model: TextToImage, tokens: Sequence[str], count: int, vectors: Callable[[], Tensor]
) -> Iterator[None]:
    """Teach the model ``tokens``; ``vectors()`` returns ``count`` x D vectors for each, one after another.

    Gradients reach what it returns; otherwise as `soft_tokens`.
    """
    encoder = model.pipeline.text_encoder
    width = encoder.get_input_embeddings().weight.shape[1]
    with soft_tokens(model, {token: torch.zeros(count, width) for token in tokens}):
        table = encoder.get_input_embeddings()
        encoder.set_input_embeddings(_Live(table, table.num_embeddings - count * len(tokens), vectors))
        yield


class _Live(nn.Module):
    """Looks tokens from number ``first`` on up in what ``vectors()`` returns."""

    def __init__(self, table: nn.Embedding, first: int, vectors: Callable[[], Tensor]) -> None:
        super().__init__()
        self.table, self.first, self.vectors = table, first, vectors

    def forward(self, tokens: Tensor) -> Tensor:
        known = self.table(tokens)
        live = self.vectors().to(known)[(tokens - self.first).clamp(min=0)]
        return torch.where((tokens < self.first).unsqueeze(-1), known, live)
