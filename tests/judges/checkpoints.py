"""Small random checkpoints in exactly the formats of transformers, timm, torchvision and open_clip."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import timm
import torch
import torchvision
import yaml
from open_clip.model import CLIP
from safetensors.torch import save_file
from torch import nn
from transformers import (
    ResNetConfig,
    ResNetForImageClassification,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessor,
)

from fairbench.storage import sha256_of

FAIRFACE = (
    *("White", "Black", "Latino_Hispanic", "East Asian", "Southeast Asian", "Indian", "Middle Eastern"),
    *("Male", "Female"),
    *("0-2", "3-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "more than 70"),
)
RACES = {
    "WMELH": ["White", "Latino_Hispanic", "Middle Eastern"],
    "Black": "Black",
    "Indian": "Indian",
    "Asian": ["East Asian", "Southeast Asian"],
}
GENDERS = {"female": "Female", "male": "Male"}
AGES = {"young": list(FAIRFACE[9:15]), "old": list(FAIRFACE[15:])}
CLIP_CONFIG = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
SEEN = {"image_size": 32, "mean": MEAN, "std": STD}
FAIRFACE_MAP = {"outputs": list(FAIRFACE), "attributes": {"race": RACES, "gender": GENDERS, "age": AGES}}
VIT = {"kind": "transformers", "source": "vit", "attributes": {"gender": GENDERS}}
PROMPTS = {"gender": {"male": ["a photo of a man", "a boy"], "female": "a photo of a woman"}}


def loud(network: nn.Module, seed: int = 0) -> nn.Module:
    """Random weights whose answers differ from image to image; batch statistics as in training."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in network.named_parameters():
        if parameter.ndim > 1:
            parameter.data = torch.randn(parameter.shape, generator=generator) * parameter[0].numel() ** -0.5
        elif "bias" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3
    return network.eval()


def save_vit(directory: Path, seed: int = 0) -> nn.Module:
    names = {0: "Male", 1: "Female"}
    config = ViTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=32,
        patch_size=8,
        id2label=names,
        label2id={name: place for place, name in names.items()},
    )
    network = loud(ViTForImageClassification(config), seed)
    network.save_pretrained(directory)
    ViTImageProcessor(
        size={"height": 32, "width": 32}, image_mean=[0.5, 0.4, 0.3], image_std=[0.2, 0.3, 0.4]
    ).save_pretrained(directory)
    return network


def save_resnet(directory: Path) -> nn.Module:
    config = ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=18
    )
    network = loud(ResNetForImageClassification(config))
    network.save_pretrained(directory)
    return network


def save_timm(directory: Path) -> nn.Module:
    network = loud(timm.create_model("test_resnet", num_classes=18))
    timm.models.save_for_hf(network, str(directory), safe_serialization=True)
    return network


def save_torchvision(directory: Path, architecture: str, outputs: int) -> nn.Module:
    network = loud(torchvision.models.get_model(architecture, weights=None, num_classes=outputs))
    directory.mkdir()
    save_file(network.state_dict(), directory / "model.safetensors")
    return network


def save_clip(directory: Path) -> CLIP:
    torch.manual_seed(0)
    network = CLIP(**CLIP_CONFIG).eval()
    directory.mkdir()
    save_file(network.state_dict(), directory / "open_clip_model.safetensors")
    config = {
        "model_cfg": CLIP_CONFIG,
        "preprocess_cfg": {"mean": [0.48, 0.46, 0.41], "std": [0.27, 0.26, 0.28]},
    }
    (directory / "open_clip_config.json").write_text(json.dumps(config))
    return network


def write_judge(path: Path, *networks: dict[str, Any], **others: Any) -> Path:
    path.write_text(yaml.safe_dump({"name": "mine", "networks": list(networks), **others}, sort_keys=False))
    return path


def normalised(images, mean=MEAN, std=STD):
    return (images - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)


def faces(folder, **changes):
    (folder / "yunet.onnx").write_bytes(b"an onnx file")
    return {"kind": "yunet", "file": "yunet.onnx", "sha256": sha256_of(b"an onnx file")} | changes
