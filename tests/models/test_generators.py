"""Plugins and functions as models: what they must make, and what holds where they do not say."""

import numpy as np
import pytest
import torch
from PIL import Image

import fairbench
from fairbench.errors import UserError
from fairbench.models.generators import AT_ONCE, FunctionModel, PluginModel, as_model
from fairbench.models.text_to_image import TextToImage
from tests.runs.small import built, small
from tests.tiny import tiny_pipeline

__all__ = ["built", "small"]


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (np.zeros((2, 8, 8, 3), np.uint8), "made 2 images of 6 prompts"),
        (np.zeros((6, 8, 8), np.uint8), "made uint8 of shape"),
        (torch.full((6, 3, 8, 8), torch.nan), "finite"),
        ([np.zeros((8 + k, 8, 3), np.uint8) for k in range(6)], "different sizes"),
    ],
)
def test_a_callable_that_makes_no_images(small, tmp_path, returned, message):
    options = {"judges": [str(small.root / "judge-a")], "images_per_prompt": 3}
    with pytest.raises(UserError, match=message):
        fairbench.evaluate(
            lambda prompts, seeds: returned,
            suite=str(small.root / "jobs.yaml"), name="broken", out=tmp_path / "e", **options,
        )  # fmt: skip
    with pytest.raises(UserError, match="give name="):
        fairbench.evaluate(lambda prompts, seeds: returned, suite="occupations", **options)


class Plugin:
    """Keeps what it wraps under the name `pipeline`, as many do, and says nothing of itself."""

    pipeline = None

    def generate(self, prompts, seeds, *, steps=None, guidance=None):
        self.asked = (prompts, seeds, steps, guidance)
        return torch.zeros(len(prompts), 3, 8, 8)


def test_what_a_plugin_does_not_say_has_a_default():
    plugin = Plugin()
    model = as_model(plugin, "theirs")
    assert isinstance(model, PluginModel) and model.name == "theirs"
    assert (model.device, model.unet_rows, model.most_steps, model.images_at_once) == (None, 0, None, AT_ONCE)
    assert model.generate(["a", "b"], [1, 2], steps=3, guidance=2.0).shape == (2, 3, 8, 8)
    assert plugin.asked == (["a", "b"], [1, 2], 3, 2.0)
    model.check(["a", "b"])
    assert plugin.asked[:2] == (["a"], [0])


def test_what_a_plugin_says_is_heard():
    plugin, checked = Plugin(), []
    plugin.device, plugin.unet_rows, plugin.check = "cuda:1", 5, checked.append
    model = as_model(plugin, "theirs")
    model.check(["a", "b"])
    assert checked == [["a", "b"]] and not hasattr(plugin, "asked")
    plugin.unet_rows += 2
    assert (model.device, model.unet_rows) == ("cuda:1", 7)


def test_our_own_models_are_left_as_they_are():
    ours = TextToImage(tiny_pipeline(), "tiny")
    function = FunctionModel(lambda prompts, seeds: [], "mine")
    assert as_model(ours, "another name") is ours and as_model(function, "another name") is function
    assert (ours.name, function.name) == ("tiny", "mine")


RED = np.zeros((2, 4, 3), np.uint8)
RED[..., 0] = 51


@pytest.mark.parametrize(
    "returned",
    [
        np.stack([RED] * 2),
        [RED] * 2,
        [Image.fromarray(RED)] * 2,
        [torch.from_numpy(RED).permute(2, 0, 1) / 255] * 2,
        np.stack([RED.transpose(2, 0, 1) / 255] * 2),
        torch.from_numpy(RED).permute(2, 0, 1)[None].expand(2, -1, -1, -1).half() / 255,
        (torch.from_numpy(RED).permute(2, 0, 1) / 255).requires_grad_()[None].expand(2, -1, -1, -1),
    ],
    ids=["bytes", "list of bytes", "Pillow", "list of floats", "doubles", "halves", "with gradients"],
)
def test_a_function_may_return_images_in_any_of_these_forms(returned):
    images = FunctionModel(lambda prompts, seeds: returned, "mine").generate(["a", "b"], [0, 1], steps=9)
    assert images.dtype == torch.float32 and images.shape == (2, 3, 2, 4) and not images.requires_grad
    expected = torch.tensor([0.2, 0, 0])[None, :, None, None].expand_as(images)
    torch.testing.assert_close(images, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ([], "mine made 0 images of 1 prompts: make one of each"),
        (np.zeros((1, 4, 4, 4), np.uint8), r"mine made uint8 of shape \(4, 4, 4\)"),
        (np.zeros((1, 4, 4, 3)), r"mine made float64 of shape \(4, 4, 3\)"),
        (np.zeros((1, 3, 4, 4), int), "mine made int64"),
        (np.full((1, 3, 4, 4), np.inf), "finite"),
    ],
    ids=["none", "four channels", "channels last", "integers", "infinite"],
)
def test_what_is_no_image_is_named(returned, message):
    with pytest.raises(UserError, match=message):
        FunctionModel(lambda prompts, seeds: returned, "mine").generate(["a"], [0])


def test_a_function_has_its_own_name_unless_another_is_given():
    def mine(prompts, seeds):
        return [RED for _ in prompts]

    assert FunctionModel(mine).name == "mine" and FunctionModel(mine, "yours").name == "yours"
    assert FunctionModel(Plugin().generate).name == "generate"
    with pytest.raises(UserError, match="give name="):
        FunctionModel(lambda prompts, seeds: [])
