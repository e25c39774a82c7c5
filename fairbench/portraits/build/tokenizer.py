"""A CLIP tokenizer for the words of the world: byte-level BPE, end-of-text with the highest id."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer

MAX_LENGTH = 32
START, END = "<|startoftext|>", "<|endoftext|>"
CLIP_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def build_tokenizer(captions: Iterable[str], vocabulary: int, directory: Path) -> CLIPTokenizer:
    """Learn at most ``vocabulary`` tokens from ``captions`` and save the tokenizer to ``directory``."""
    raw = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    raw.normalizer = normalizers.Lowercase()
    raw.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(CLIP_PATTERN), "removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - 2 - len(alphabet),
        initial_alphabet=sorted(alphabet),
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    raw.train_from_iterator(captions, trainer)
    tokens, merges = _with_word_ends(raw, sorted(alphabet))
    tokenizer = CLIPTokenizer(
        vocab={token: index for index, token in enumerate([*tokens, START, END])},
        merges=merges,
        unk_token=END, bos_token=START, eos_token=END, pad_token=END,
        model_max_length=MAX_LENGTH,
    )  # fmt: skip
    tokenizer.save_pretrained(directory)
    return tokenizer


def _with_word_ends(raw: Tokenizer, alphabet: list[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """Return all tokens, every byte with and without the word end first, and the merges in their order."""
    import json

    model = json.loads(raw.to_str())["model"]
    bytes_ = [*alphabet, *(f"{byte}</w>" for byte in alphabet)]
    learnt = [
        token
        for token, _ in sorted(model["vocab"].items(), key=lambda item: item[1])
        if token not in set(bytes_)
    ]
    return bytes_ + learnt, [tuple(merge) for merge in model["merges"]]
