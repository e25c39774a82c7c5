"""Soft tokens: vectors that stand in the prompt like words, in the format of textual inversion.

Tokenizer and embedding table are set aside and put back, so the model is bit-identical afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy

import torch
from torch import Tensor, nn

from fairbench.errors import UserError
from fairbench.models.text_to_image import TextToImage


@contextmanager
def soft_tokens(model: TextToImage, embeddings: Mapping[str, Tensor]) -> Iterator[None]:
    """Teach tokenizer and text encoder new tokens, for as long as the context lasts.

    Parameters
    ----------
    model : TextToImage
    embeddings : mapping
        Token, such as ``<name>``, to its n x D vectors. Written in a prompt it stands for all n of them,
        as after ``StableDiffusionPipeline.load_textual_inversion``.

    Raises
    ------
    UserError
        If the vectors are of another width than the text encoder's, or the tokenizer knows the token.
    """
    if not embeddings:
        yield
        return
    pipeline = model.pipeline
    encoder, tokenizer = pipeline.text_encoder, pipeline.tokenizer
    table = encoder.get_input_embeddings()
    names = []
    for token, vectors in embeddings.items():
        if vectors.shape[1:] != table.weight.shape[1:]:
            raise UserError(
                f"the soft tokens do not fit {model.name}: they are {vectors.shape[-1]} wide, "
                f"its text encoder's {table.weight.shape[1]}"
            )
        names += [token, *(f"{token}_{number}" for number in range(1, len(vectors)))]
    if known := set(names) & set(tokenizer.get_vocab()):
        raise UserError(f"{model.name} knows the token {min(known)!r} already: take the other one off first")
    extended = deepcopy(tokenizer)
    extended.add_tokens(names)
    new = torch.cat([vectors.to(table.weight) for vectors in embeddings.values()])
    try:
        pipeline.tokenizer = extended
        encoder.set_input_embeddings(
            nn.Embedding.from_pretrained(torch.cat([table.weight[: len(tokenizer)], new]))
        )
        yield
    finally:
        pipeline.tokenizer = tokenizer
        encoder.set_input_embeddings(table)


def in_front(token: str) -> Callable[[Sequence[str], Sequence[int]], list[str]]:
    """Return the rewriting hook that puts ``token`` in front of every prompt, without a space."""
    return lambda prompts, seeds: [token + prompt for prompt in prompts]
