import json
import shutil

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import CLIPTokenizer

from fairbench.errors import UserError
from fairbench.features import build_features, cosine, load_features, save_features

START, END = "<|startoftext|>", "<|endoftext|>"
LETTERS = "abcdefghijklmnopqrstuvwxyz"
CONTEXT = 10
TIMM = {
    "name": "self",
    "kind": "timm",
    "architecture": "resnet18",
    "kwargs": {"channels": [8, 8, 8, 16], "layers": [1, 1, 1, 1], "stem_width": 8},
}


def make_tokenizer(tokens=()) -> CLIPTokenizer:
    vocabulary = [*LETTERS, *(f"{letter}</w>" for letter in LETTERS), *tokens, START, END]
    return CLIPTokenizer(
        vocab={token: index for index, token in enumerate(vocabulary)},
        merges=[],
        unk_token=END,
        bos_token=START,
        eos_token=END,
        pad_token=END,
        model_max_length=CONTEXT,
    )


def clip_config(vocabulary: int) -> dict:
    sizes = {
        "embed_dim": 24,
        "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "head_width": 32},
        "text_cfg": {
            "context_length": CONTEXT,
            "vocab_size": vocabulary,
            "width": 16,
            "heads": 2,
            "layers": 1,
        },
    }
    return {"name": "pair", "kind": "open_clip", "kwargs": sizes}


def build(kind: str):
    torch.manual_seed(0)
    if kind == "timm":
        features = build_features(TIMM)
    else:
        tokenizer = make_tokenizer()
        features = build_features(clip_config(len(tokenizer)), tokenizer)
    for parameter in features.network.parameters():
        parameter.data = parameter.data.half().float()
    features.network.eval()
    return features


@pytest.fixture(scope="module", params=["timm", "open_clip"])
def features(request):
    return build(request.param)


@pytest.fixture(scope="module")
def clip():
    return build("open_clip")


@pytest.fixture(scope="module")
def images():
    return torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def test_features_are_the_networks_own_on_images_from_minus_one_to_one(features, images):
    inputs = images * 2 - 1
    is_clip = features.description.kind == "open_clip"
    expected = features.network.encode_image(inputs) if is_clip else features.network(inputs)
    torch.testing.assert_close(features(images), expected)
    assert expected.shape == (4, features.dim)


def test_batches_make_no_difference_and_carry_no_gradients(features, images):
    whole = features(images).detach()
    for size in (1, 3, 4, 9):
        batched = features.batched(images, size)
        torch.testing.assert_close(batched, whole)
        assert not batched.requires_grad and not batched.is_inference()
    assert features.batched(images[:0]).shape == (0, features.dim)


def test_gradients_reach_the_images(features, images):
    pixels = images.clone().requires_grad_()
    features(pixels)[0].sum().backward()
    assert pixels.grad[0].abs().sum() > 0 and pixels.grad[1:].abs().sum() == 0


def test_saved_features_are_the_same(features, images, tmp_path):
    save_features(features, tmp_path, {"retrieval": 0.9})
    loaded = load_features(tmp_path)
    torch.testing.assert_close(loaded(images), features(images).detach())
    assert (loaded.name, loaded.dim, len(loaded.sha256)) == (features.name, features.dim, 64)
    assert loaded.description.measured == {"retrieval": 0.9}
    assert not any(parameter.requires_grad for parameter in loaded.network.parameters())
    if loaded.tokenizer is not None:
        torch.testing.assert_close(loaded.text(["a nurse", "cook"]), features.text(["a nurse", "cook"]))


def test_features_that_are_not_finite_name_the_network(features, images):
    with pytest.raises(UserError, match=f"features {features.name}: not finite"):
        features.batched(images / 0)


def test_text_is_read_up_to_the_first_end_of_text(clip):
    start, end = clip.tokenizer.bos_token_id, clip.tokenizer.eos_token_id
    letters = {letter: index for index, letter in enumerate(LETTERS)}
    tokens = torch.tensor([[start, letters["d"], 26 + letters["o"], *[end] * 7], [start, *[end] * 9]])
    with torch.inference_mode():
        hidden = clip.network.token_embedding(tokens) + clip.network.positional_embedding
        hidden = clip.network.ln_final(clip.network.transformer(hidden, attn_mask=clip.network.attn_mask))
        expected = hidden[[0, 1], [3, 1]] @ clip.network.text_projection
    torch.testing.assert_close(clip.text(["Do", ""]), expected.clone())


@settings(max_examples=10, deadline=None)
@given(st.lists(st.text(LETTERS, min_size=0, max_size=8), min_size=1, max_size=4))
def test_a_prompt_reads_the_same_in_any_company(clip, prompts):
    together = clip.text(prompts)
    for row, prompt in zip(together, prompts, strict=True):
        torch.testing.assert_close(row, clip.text([prompt])[0])


def test_a_prompt_that_is_too_long_is_refused_and_not_cut(clip):
    clip.text(["abcdefgh"])
    with pytest.raises(UserError, match="read 10 tokens, but the prompt 'abcdefghi' has 11"):
        clip.text(["a", "abcdefghi"])


def test_a_prompt_that_is_cut_keeps_the_token_that_clip_reads(clip):
    """Cutting off the end of text as well moves the pooled place: 26.2 became 17.0 in torchmetrics#2883."""
    long = "abcdefghijklm"
    start, end = clip.tokenizer.bos_token_id, clip.tokenizer.eos_token_id
    seen = []
    encode = clip.network.encode_text
    clip.network.encode_text = lambda tokens: seen.append(tokens) or encode(tokens)
    try:
        found = clip.text([long], truncate=True)
    finally:
        del clip.network.encode_text
    (tokens,) = seen
    assert tokens.shape == (1, CONTEXT) and tokens[0, 0] == start and tokens[0, -1] == end
    assert (tokens[0, :-1] != end).all()
    assert not torch.allclose(found, clip.text(["abcdefg"]))
    assert torch.equal(clip.text(["abc"], truncate=True), clip.text(["abc"]))
    assert clip.too_long(long) and not clip.too_long("abc")


def test_a_network_without_text_says_so():
    with pytest.raises(UserError, match="features self read no text"):
        build("timm").text(["nurse"])


def test_the_tokenizer_must_fit_and_end_last():
    tokenizer = make_tokenizer()
    with pytest.raises(UserError, match="must have 55 tokens, end of text last; it has 54"):
        build_features(clip_config(55), tokenizer)
    tokenizer.add_tokens(["later"])
    with pytest.raises(UserError, match="end of text is number 53"):
        build_features(clip_config(55), tokenizer)
    with pytest.raises(UserError, match="open_clip needs a tokenizer"):
        build_features(clip_config(54))


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"embed_dim": 8}, "must hold vision_cfg"),
        ({"vision_cfg": {"timm_model_name": "resnet18"}, "text_cfg": {}}, "take out timm_model_name"),
        ({"vision_cfg": {}, "text_cfg": {"hf_model_name": "someone/bert"}}, "take out hf_model_name"),
        ({"embed_dim": 8, "vision_cfg": {"colour": 1}, "text_cfg": {}}, "open_clip cannot build"),
    ],
)
def test_a_faulty_configuration_is_one_line(kwargs, message):
    with pytest.raises(UserError, match=message) as error:
        build_features(clip_config(54) | {"kwargs": kwargs}, make_tokenizer())
    assert "\n" not in str(error.value)


def test_files_that_are_missing_are_named(clip, tmp_path):
    save_features(clip, tmp_path / "pair", {})
    first = load_features(tmp_path / "pair").sha256
    (tmp_path / "pair" / "tokenizer" / "note.txt").write_text("changed")
    assert load_features(tmp_path / "pair").sha256 != first
    shutil.rmtree(tmp_path / "pair" / "tokenizer")
    with pytest.raises(UserError, match=r"tokenizer: there is no such directory"):
        load_features(tmp_path / "pair")
    (tmp_path / "pair" / "model.safetensors").rename(tmp_path / "pair" / "model.pt")
    with pytest.raises(UserError, match=r"model\.pt is a pickle"):
        load_features(tmp_path / "pair")
    with pytest.raises(UserError, match="unknown feature 'nowhere'"):
        load_features("nowhere")


def test_an_unknown_kind_is_one_line(features, tmp_path):
    save_features(features, tmp_path, {})
    path = tmp_path / "features.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"kind": "dino"}))
    with pytest.raises(UserError, match=r"features\.json: kind: .*'timm' or 'open_clip'"):
        load_features(path.parent)


@settings(deadline=None)
@given(st.integers(0, 1000), st.floats(0.1, 100))
def test_the_cosine_is_that_of_the_angle(seed, scale):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(2, 3, 5))
    expected = np.einsum("nd,nd->n", a, b) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    np.testing.assert_allclose(cosine(torch.from_numpy(a * scale), torch.from_numpy(b)), expected)
