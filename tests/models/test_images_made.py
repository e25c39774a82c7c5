"""What models made of prompts: images in [0, 1], or a line that says what is wrong with them."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from fairbench.errors import UserError
from fairbench.models.generators import FunctionModel, PluginModel
from fairbench.models.text_to_image import TextToImage
from fairbench.runs.generation import Kept, generate_with
from tests.tiny import tiny_pipeline

GREY = torch.full((2, 3, 4, 4), 0.5)


def made(returned):
    """Return the images of a function and of a plugin that return the same."""
    function = FunctionModel(lambda prompts, seeds: returned, "mine")
    plugin = PluginModel(SimpleNamespace(generate=lambda prompts, seeds, **options: returned), "mine")
    images, others = (model.generate(["a cook", "a maid"], [5, 7]) for model in (function, plugin))
    assert torch.equal(images, others)
    return images


@pytest.mark.parametrize(
    "returned",
    [
        GREY.bfloat16(),
        SimpleNamespace(images=GREY),
        SimpleNamespace(images=[Image.new("RGB", (4, 4), (128, 128, 128))] * 2),
        GREY + 0.4 / 255,
    ],
    ids=["bfloat16", "output of a pipeline", "Pillow in one", "rounding"],
)
def test_other_forms_of_the_same_images(returned):
    torch.testing.assert_close(made(returned), GREY, atol=0.51 / 255, rtol=0)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (torch.stack([GREY[0], -GREY[0]]), "mine made images from -0.5 to 0.5: bring them into"),
        (GREY * 255, "mine made images from 127.5 to 127.5: bring them into"),
        (None, "mine made NoneType: return the images, one of each prompt"),
        (torch.stack([GREY[0], GREY[0] * torch.nan]), "the image of 'a maid', seed 7, is not finite"),
        (torch.stack([GREY[0] / 0, GREY[0]]), r"'a cook', seed 5, is not finite .*try \[dtype=float32\]"),
    ],
)
def test_what_would_be_clipped_or_black_is_refused(returned, message):
    with pytest.raises(UserError, match=message):
        made(returned)


@pytest.mark.parametrize("wrong", [torch.nan, torch.inf, -torch.inf])
def test_a_model_whose_decoder_is_not_finite_leaves_no_black_image(tmp_path, wrong):
    model = TextToImage(tiny_pipeline(), "tiny")
    decoder = model.pipeline.vae.decoder.conv_out
    decoder.register_forward_hook(lambda module, given, output: torch.full_like(output, wrong))
    rows = pd.DataFrame({"prompt": ["a cook"], "seed": [3], "image": ["images/0.png"]})
    with pytest.raises(UserError, match="the image of 'a cook', seed 3, is not finite"):
        generate_with(model, rows, tmp_path, lambda done: None, kept=Kept(), steps=1, guidance=1.0)
    assert not list(tmp_path.rglob("*.png"))


def test_an_image_that_is_whole_in_bytes_stays_as_it_is():
    pixels = np.random.default_rng(0).integers(0, 256, (2, 4, 5, 3), dtype=np.uint8)
    assert np.array_equal((made(pixels) * 255).round().permute(0, 2, 3, 1).numpy(), pixels)
