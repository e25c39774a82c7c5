"""Where in a prompt's tokens things are, and whether a tokenizer knows a word at all."""

from collections.abc import Iterable, Sequence

from torch import Tensor

from fairbench.errors import UserError
from fairbench.models.text_to_image import TextToImage


def end_rows(model: TextToImage, prompts: Sequence[str]) -> Tensor:
    """Return the position of the end token of N prompts, shape (N,).

    It is the first one: padding may use the same token.
    """
    return (model.tokens(prompts) == model.pipeline.tokenizer.eos_token_id).int().argmax(1)


def last_rows(model: TextToImage, prompts: Sequence[str], parts: Sequence[str]) -> Tensor:
    """Return where the last token of ``part`` is in each prompt, shape (N,).

    Raises
    ------
    UserError
        A prompt does not contain its part.
    """
    beginnings = []
    for prompt, part in zip(prompts, parts, strict=True):
        at = prompt.find(part)
        if at < 0:
            raise UserError(f"the prompt {prompt!r} does not contain {part!r}, which is to be edited in it")
        beginnings.append(prompt[: at + len(part)])
    return end_rows(model, beginnings) - 1


def check_words(model: TextToImage, words: Iterable[str]) -> None:
    """Raise a ``UserError`` naming the first word that the tokenizer of ``model`` has no tokens for."""
    tokenizer = model.pipeline.tokenizer
    for word in words:
        tokens = tokenizer(word, add_special_tokens=False).input_ids
        if not tokens or tokenizer.unk_token_id in tokens:
            raise UserError(f"the tokenizer of {model.name} lacks the word {word!r}: use another model")
