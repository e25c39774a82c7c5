"""Every cross-attention of the U-Net is edited, and nothing else of it."""

import torch
from torch.testing import assert_close

from fairbench.editing.attention import edited, key_value_weights
from fairbench.models.text_to_image import TextToImage
from tests.tiny import tiny_pipeline


def test_the_matrices_are_the_keys_and_values_of_every_cross_attention():
    model = TextToImage(tiny_pipeline(), "tiny")
    weights = key_value_weights(model)
    attentions = [name for name, _ in model.pipeline.unet.named_modules() if name.endswith("attn2")]
    assert len(attentions) >= 3
    assert set(weights) == {f"unet.{name}.to_{part}.weight" for name in attentions for part in "kv"}
    assert all(weight.shape[1] == 16 for weight in weights.values())


def test_an_edit_makes_of_the_keys_what_each_matrix_should_make_of_them():
    model = TextToImage(tiny_pipeline(), "tiny")
    before = {name: weight.clone() for name, weight in key_value_weights(model).items()}
    keys, others = torch.eye(16)[:3], torch.eye(16)[5:8]
    changed = edited(before, keys, lambda weight: others.double() @ weight.T, 1e-9, torch.ones(3))
    for name, weight in changed.items():
        assert weight.dtype == before[name].dtype
        assert_close(weight[:, :3], before[name][:, 5:8], atol=1e-6, rtol=1e-5)
        assert_close(weight[:, 3:], before[name][:, 3:], atol=1e-6, rtol=1e-5)
    assert all(torch.equal(weight, before[name]) for name, weight in key_value_weights(model).items())
