import pytest
import torch
from open_clip.model import CLIP

from fairbench.features.convert import clip_text_model

VOCABULARY, CONTEXT = 60, 12


def make_clip(**changes):
    torch.manual_seed(0)
    vision = {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "head_width": 32}
    text = {"context_length": CONTEXT, "vocab_size": VOCABULARY, "width": 32, "heads": 4, "layers": 2}
    clip = CLIP(24, vision, text | changes).eval()
    for parameter in clip.parameters():  # also the biases and norms, which start at 0 and 1
        torch.nn.init.normal_(parameter, std=0.3)
    return clip


@pytest.fixture(scope="module")
def clip():
    return make_clip()


@pytest.fixture(scope="module")
def tokens():
    ids = torch.full((5, CONTEXT), VOCABULARY - 1)
    ids[:, 0] = VOCABULARY - 2
    generator = torch.Generator().manual_seed(0)
    for row, length in enumerate((0, 1, 4, 9, 10)):
        ids[row, 1 : 1 + length] = torch.randint(VOCABULARY - 2, (length,), generator=generator)
    return ids


@torch.inference_mode()
def test_hidden_states_and_pooled_state_are_those_of_open_clip(clip, tokens):
    hidden = clip.token_embedding(tokens) + clip.positional_embedding
    hidden = clip.ln_final(clip.transformer(hidden, attn_mask=clip.attn_mask))
    output = clip_text_model(clip)(tokens)
    torch.testing.assert_close(output.last_hidden_state, hidden, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(
        output.pooler_output @ clip.text_projection, clip.encode_text(tokens), atol=1e-4, rtol=1e-5
    )


@torch.inference_mode()
def test_a_token_sees_only_those_before_it(clip, tokens):
    model = clip_text_model(clip)
    changed = tokens.clone()
    changed[:, 6:] = 3
    before, after = model(tokens).last_hidden_state, model(changed).last_hidden_state
    torch.testing.assert_close(before[:, :6], after[:, :6])
    assert not torch.allclose(before[:, 6:], after[:, 6:])


@torch.inference_mode()
def test_the_saved_model_is_an_ordinary_text_encoder(clip, tokens, tmp_path):
    from transformers import CLIPTextModel

    model = clip_text_model(clip)
    model.save_pretrained(tmp_path)
    loaded = CLIPTextModel.from_pretrained(tmp_path, use_safetensors=True)
    assert (loaded.config.eos_token_id, loaded.config.bos_token_id) == (VOCABULARY - 1, VOCABULARY - 2)
    torch.testing.assert_close(loaded(tokens).pooler_output, model(tokens).pooler_output)


def test_the_copy_does_not_share_its_weights(clip):
    before = clip.token_embedding.weight.clone()
    torch.nn.init.zeros_(clip_text_model(clip).get_input_embeddings().weight)
    torch.testing.assert_close(clip.token_embedding.weight, before)


@pytest.mark.parametrize("change", [{"no_causal_mask": True}, {"ls_init_value": 0.1}])
def test_a_tower_with_other_parts_is_refused(change):
    with pytest.raises(ValueError, match=r"causal|does not fit"):
        clip_text_model(make_clip(**change))
