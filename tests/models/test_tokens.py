"""Positions are those of the tokens themselves, whatever the padding."""

import pytest

from fairbench.errors import UserError
from fairbench.models.text_to_image import TextToImage
from fairbench.models.tokens import check_words, end_rows, last_rows
from tests.tiny import tiny_pipeline

MODEL = TextToImage(tiny_pipeline(), "tiny")
PROMPTS = ["the face", "the face of a cat", ""]


def test_the_end_is_the_first_end_token_although_padding_repeats_it():
    expected = [len(MODEL.pipeline.tokenizer(prompt).input_ids) - 1 for prompt in PROMPTS]
    assert end_rows(MODEL, PROMPTS).tolist() == expected == [3, 8, 1]


def test_the_last_token_of_a_part_is_found_by_its_text():
    prompts = ["face of a cat", "the cat of a face"]
    tokens = MODEL.tokens(prompts)
    rows = last_rows(MODEL, prompts, ["cat", "cat"])
    (last,) = MODEL.pipeline.tokenizer("cat", add_special_tokens=False).input_ids[-1:]
    assert [int(tokens[i, row]) for i, row in enumerate(rows)] == [last, last]
    assert rows.tolist() == [6, 4]


def test_a_part_that_is_not_there_is_refused():
    with pytest.raises(UserError, match="does not contain 'dog', which is to be edited"):
        last_rows(MODEL, ["face of a cat"], ["dog"])


def test_a_word_that_the_tokenizer_lacks_is_named():
    check_words(MODEL, ["female", "face"])
    with pytest.raises(UserError, match="the tokenizer of tiny lacks the word ''"):
        check_words(MODEL, ["female", ""])
    model = TextToImage(tiny_pipeline(), "small")
    vocabulary = {
        token: i for token, i in model.pipeline.tokenizer.get_vocab().items() if token not in ("m", "m</w>")
    }
    model.pipeline.tokenizer = type(model.pipeline.tokenizer)(
        vocab={token: i for i, token in enumerate(vocabulary)}, merges=[], unk_token="<|endoftext|>"
    )
    with pytest.raises(UserError, match="the tokenizer of small lacks the word 'female'"):
        check_words(model, ["face", "female"])
