"""What a classifier is shown, against the library's own processor."""

import json

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from transformers import AutoImageProcessor

from fairbench.errors import UserError
from fairbench.judges import load_judge
from fairbench.judges.preparation import PREPROCESSOR
from tests.judges.checkpoints import FAIRFACE_MAP, VIT, save_timm, write_judge

VIT_SEEN = {"image_processor_type": "ViTImageProcessor", "size": {"height": 32, "width": 32}}
CROPPED = {"size": {"shortest_edge": 40}, "do_center_crop": True, "crop_size": {"height": 32, "width": 32}}
CONVNEXT = {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 32}}


def shown(judge, images):
    """Return what the network of a judge is given when it judges bytes, N x H x W x 3."""
    given, (reader,) = [], judge.network.readers
    reader.network.register_forward_pre_hook(lambda module, inputs: given.append(inputs[0]))
    judge.judge(torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255)
    return given[0]


def bytes_of(size):
    return np.random.default_rng(0).integers(0, 256, (2, size, size, 3), dtype=np.uint8)


def with_settings(copy, settings):
    (copy / "vit" / PREPROCESSOR).write_text(json.dumps(settings))
    return write_judge(copy / "vit.yaml", VIT)


@pytest.mark.parametrize(
    ("settings", "scaled"),
    [
        (VIT_SEEN, 32),
        (VIT_SEEN | {"rescale_factor": 1 / 127.5, "image_mean": [1.0] * 3, "image_std": [1.0] * 3}, 32),
        (VIT_SEEN | {"do_rescale": False, "image_mean": [120.0] * 3, "image_std": [60.0] * 3}, 32),
        (VIT_SEEN | {"do_rescale": False, "do_normalize": False}, 32),
        (VIT_SEEN | {"do_normalize": False}, 32),
        (VIT_SEEN | CROPPED, 40),
        (VIT_SEEN | CROPPED | {"size": {"shortest_edge": 39}}, 39),
        (CONVNEXT | {"crop_pct": 0.8}, 40),
        (CONVNEXT, 36),  # 224 / 256 unless it says otherwise
        ({"feature_extractor_type": "ViTFeatureExtractor", "size": 32}, 32),
    ],
)
def test_a_transformers_classifier_is_shown_what_its_files_say(copy, settings, scaled):
    judge, images = load_judge(with_settings(copy, settings)), bytes_of(scaled)
    processor = AutoImageProcessor.from_pretrained(copy / "vit", local_files_only=True)
    wanted = processor(list(images), return_tensors="pt")["pixel_values"].float()
    torch.testing.assert_close(shown(judge, images), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "settings",
    [
        {"image_processor_type": "MobileViTImageProcessor", "size": {"shortest_edge": 32},
         "crop_size": {"height": 32, "width": 32}, "do_flip_channel_order": True},
        {"image_processor_type": "EfficientNetImageProcessor", "size": {"height": 32, "width": 32},
         "rescale_offset": True, "include_top": False},
        VIT_SEEN | {"size": {"height": 32, "width": 24}},
        VIT_SEEN | CROPPED | {"size": {"shortest_edge": 24}},
        VIT_SEEN | {"rescale_factor": "twice"},
        VIT_SEEN | {"rescale_factor": 0},
        VIT_SEEN | {"image_processor_type": "NobodysImageProcessor"},
    ],
    ids=["blue first", "offset", "no square", "padded", "text", "nothing", "unknown"],
)  # fmt: skip
def test_what_is_more_than_that_is_refused_unless_the_judge_file_states_it(copy, settings):
    path = with_settings(copy, settings)
    with pytest.raises(UserError, match=r"preprocessor_config\.json: asks for more than to scale"):
        load_judge(path)
    stated = {"image_size": 32, "mean": [0.5] * 3, "std": [0.25] * 3}
    images = bytes_of(32)
    wanted = (torch.from_numpy(images).permute(0, 3, 1, 2) / 255 - 0.5) / 0.25
    torch.testing.assert_close(shown(load_judge(write_judge(path, VIT | stated)), images), wanted)


def test_a_timm_classifier_is_shown_what_its_files_say(tmp_path):
    save_timm(tmp_path / "timm")
    network = {"kind": "timm", "source": "timm", **FAIRFACE_MAP}
    path = tmp_path / "timm" / "config.json"
    for percent in (0.95, 0.9, 1.0):
        config = json.loads(path.read_text())
        config["pretrained_cfg"]["crop_pct"] = percent
        path.write_text(json.dumps(config))
        transform = timm.data.create_transform(
            **timm.data.resolve_data_config(pretrained_cfg=config["pretrained_cfg"])
        )
        images = bytes_of(int(160 / percent))
        judge = load_judge(write_judge(tmp_path / "t.yaml", network))
        wanted = torch.stack([transform(Image.fromarray(image)) for image in images])
        torch.testing.assert_close(shown(judge, images), wanted, rtol=1e-4, atol=1e-4)
