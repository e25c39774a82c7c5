import hashlib

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fairbench.networks import as_input, identity, pooled_width


@given(st.integers(1, 5), st.integers(3, 40), st.integers(3, 40), st.floats(0, 1))
def test_an_even_image_stays_even_at_any_size(count, height, width, value):
    inputs = as_input(torch.full((count, 3, height, width), value, dtype=torch.float64), 16)
    assert inputs.shape == (count, 3, 16, 16) and inputs.dtype == torch.float32
    torch.testing.assert_close(inputs, torch.full_like(inputs, 2 * value - 1), atol=1e-5, rtol=0)


def test_an_image_of_the_right_size_is_only_scaled():
    images = torch.rand(2, 3, 8, 8)
    torch.testing.assert_close(as_input(images, 8), images * 2 - 1, rtol=0, atol=0)


def test_the_identity_depends_on_content_and_order(tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    a.write_bytes(b"one")
    b.write_bytes(b"two")
    inner = [hashlib.sha256(content).hexdigest() for content in (b"one", b"two")]
    assert identity(a, b) == hashlib.sha256("".join(inner).encode()).hexdigest() != identity(b, a)


@pytest.mark.parametrize(
    ("architecture", "sizes"),
    [
        ("resnet18", {"channels": [8, 8, 8, 16], "layers": [1, 1, 1, 1], "stem_width": 8}),
        ("convnext_atto", {"depths": [1, 1, 1, 1], "dims": [8, 8, 8, 24], "patch_size": 2}),
        ("mobilenetv3_small_050", {}),
    ],
)
def test_the_pooled_width_is_what_comes_out(architecture, sizes):
    import timm

    network = timm.create_model(architecture, num_classes=0, **sizes).eval()
    assert network(torch.zeros(1, 3, 64, 64)).shape == (1, pooled_width(network))
