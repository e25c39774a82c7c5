"""Words of learned vectors: what the text encoder sees, gradients, and that nothing stays behind."""

import pytest
import torch
from diffusers import StableDiffusionPipeline
from torch.testing import assert_close

from fairbench.errors import UserError
from fairbench.models.live_tokens import live_tokens
from tests.finetuning.stand_ins import tiny_model
from tests.tiny import save_tiny


def test_a_word_made_of_a_known_token_reads_as_that_token():
    model = tiny_model()
    known = model.pipeline.text_encoder.get_input_embeddings().weight
    ids = model.pipeline.tokenizer("face of", add_special_tokens=False).input_ids
    expected = model.encode(["the face of a face of"])
    with live_tokens(model, ["<w>"], 2, lambda: known[ids]):
        assert_close(model.encode(["the face of a <w>"]), expected, atol=1e-6, rtol=1e-5)


def test_words_are_what_diffusers_loads_as_a_textual_inversion(tmp_path):
    vectors = torch.randn(2, 16, generator=torch.Generator().manual_seed(0))
    model = tiny_model()
    with live_tokens(model, ["<w>"], 2, lambda: vectors):
        ours = model.encode(["face <w>"]).conditional
    plain = StableDiffusionPipeline.from_pretrained(
        save_tiny(tmp_path / "model"), safety_checker=None, requires_safety_checker=False
    )
    plain.load_textual_inversion({"<w>": vectors}, token="<w>")
    theirs, _ = plain.encode_prompt(["face <w>"], "cpu", 1, False)
    assert_close(ours, theirs, atol=1e-6, rtol=1e-5)


def test_gradients_reach_the_vectors():
    model, vectors = tiny_model(), torch.zeros(3, 16, requires_grad=True)
    with live_tokens(model, ["<a>", "<b>", "<c>"], 1, lambda: vectors):
        model.encode(["face <b>"]).conditional.square().sum().backward()
    assert vectors.grad[1].abs().sum() > 0 and vectors.grad[[0, 2]].abs().sum() == 0


@pytest.mark.parametrize("error", [None, KeyboardInterrupt])
def test_nothing_stays_behind(error):
    model = tiny_model()
    tokenizer, embedding = model.pipeline.tokenizer, model.pipeline.text_encoder.get_input_embeddings()
    count = len(tokenizer)
    try:
        with live_tokens(model, ["<w>"], 1, lambda: torch.zeros(1, 16)):
            assert len(model.pipeline.tokenizer) == count + 1
            if error:
                raise error
    except KeyboardInterrupt:
        pass
    assert model.pipeline.tokenizer is tokenizer and len(tokenizer) == count
    assert model.pipeline.text_encoder.get_input_embeddings() is embedding


def test_a_word_that_is_known_already_is_refused():
    with (
        pytest.raises(UserError, match="knows the token"),
        live_tokens(tiny_model(), ["th"], 1, lambda: torch.zeros(1, 16)),
    ):
        pass
