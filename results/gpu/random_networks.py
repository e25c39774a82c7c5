"""A judge and feature networks of the usual sizes with random weights, and a tokenizer that knows no words.

They are made where they are to run, and nothing is downloaded.
"""

import open_clip
import torch
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTokenizer

from fairbench.attributes import ATTRIBUTES
from fairbench.features import ImageFeatures, build_features
from fairbench.judges import Judge, build_judge

START, END = "<|startoftext|>", "<|endoftext|>"
LETTERS = 2 * 256
"""Every byte, within a word and at its end."""
VOCABULARY, TINY_VOCABULARY = 49408, LETTERS + 2
"""CLIP's, and no more than is needed."""
LENGTH = 77
"""Tokens of a prompt."""
TINY_CLIP = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {
        "context_length": LENGTH,
        "vocab_size": TINY_VOCABULARY,
        "width": 16,
        "heads": 2,
        "layers": 1,
    },
}
TINY_RESNET = {"channels": [8, 8, 8, 8], "layers": [1, 1, 1, 1], "stem_width": 8}


def tokenizer(size: int) -> CLIPTokenizer:
    """Return one that reads a prompt letter by letter and has ``size`` tokens, as CLIP the two marks last."""
    letters = sorted(ByteLevel.alphabet())
    unused = [f"<unused {number}>" for number in range(size - LETTERS - 2)]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), *unused, START, END]
    return CLIPTokenizer(
        vocab={token: number for number, token in enumerate(tokens)},
        merges=[],
        unk_token=END,
        bos_token=START,
        eos_token=END,
        pad_token=END,
        model_max_length=LENGTH,
    )


def judge(device: str, tiny: bool) -> Judge:
    """Return a ResNet-34 at 224 pixels that reads gender and sees a face in every picture."""
    sizes = {"image_size": 32, "kwargs": TINY_RESNET} if tiny else {"image_size": 224}
    config = {
        "name": "resnet34",
        "role": "train",
        "architecture": "resnet34",
        "attributes": {"gender": ATTRIBUTES["gender"]},
        **sizes,
    }
    with torch.device(device):
        made = build_judge(config)
    torch.nn.init.constant_(made.network.face.bias, 10)
    made.network.eval().requires_grad_(False)
    return made


def clip(name: str, device: str, tiny: bool) -> ImageFeatures:
    """Return a CLIP of open_clip's own sizes, such as ViT-L-14."""
    kwargs = TINY_CLIP if tiny else open_clip.get_model_config(name)
    config = {
        "name": name,
        "kind": "open_clip",
        "kwargs": kwargs,
        "image_size": kwargs["vision_cfg"]["image_size"],
    }
    with torch.device(device):
        made = build_features(config, tokenizer(kwargs["text_cfg"]["vocab_size"]))
    made.network.eval().requires_grad_(False)
    return made


def dino(device: str, tiny: bool) -> ImageFeatures:
    """Return a ViT-S/16 at 224 pixels, the network of DINO."""
    sizes = {"embed_dim": 16, "depth": 1, "num_heads": 2, "img_size": 32} if tiny else {}
    config = {
        "name": "dino",
        "kind": "timm",
        "architecture": "vit_small_patch16_224",
        "kwargs": sizes,
        "image_size": sizes.get("img_size", 224),
    }
    with torch.device(device):
        made = build_features(config)
    made.network.eval().requires_grad_(False)
    return made
