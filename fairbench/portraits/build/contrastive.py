"""Train a small open_clip CLIP on pictures and captions; its text tower becomes the generator's text encoder.

The first gate stands here: a picture must find the caption of its role before anything is trained on top.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from open_clip.model import CLIP
from torch import Tensor
from transformers import CLIPTokenizer

from fairbench.portraits.build.data import Pictures
from fairbench.portraits.build.loop import DEVICE, Plan, batch, half_precision, train
from fairbench.portraits.captions import neutral
from fairbench.portraits.world import roles

BATCH = 256
SHIFT = 3


def clip_config(tokenizer: CLIPTokenizer, width: int) -> dict:
    """Return the open_clip configuration: a ModifiedResNet image tower and a causal text tower."""
    return {
        "embed_dim": width,
        "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16, "head_width": 32},
        "text_cfg": {
            "context_length": tokenizer.model_max_length,
            "vocab_size": len(tokenizer),
            "width": width,
            "heads": 4,
            "layers": 3,
        },
    }


def tokenize(tokenizer: CLIPTokenizer, captions: list[str]) -> Tensor:
    """Return N x context token ids, padded with the end-of-text token as Stable Diffusion 1.x does."""
    return tokenizer(captions, padding="max_length", return_tensors="pt").input_ids


def train_clip(
    name: str, pictures: Pictures, tokenizer: CLIPTokenizer, width: int, plan: Plan, directory: Path
) -> CLIP:
    """Train with the symmetric contrastive loss on pictures that are shifted by up to three pixels."""
    torch.manual_seed(plan.seed)
    network = CLIP(**clip_config(tokenizer, width)).to(DEVICE)
    network.visual.to(memory_format=torch.channels_last)
    tokens = tokenize(tokenizer, pictures.captions)
    target = torch.arange(BATCH, device=DEVICE)

    def loss(step: int) -> Tensor:
        index, generator = batch(len(tokens), BATCH, plan.seed, step)
        images = shifted(pictures.images(index) * 2 - 1, generator)
        words = tokens[index].to(DEVICE)
        with half_precision():
            image = network.encode_image(images, normalize=True)
            text = F.normalize(_encode_text(network, words), dim=-1)
        logits = network.logit_scale.exp().clamp(max=100) * image.float() @ text.float().T
        return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2

    train(name, network, loss, plan, directory)
    return network


def _encode_text(network: CLIP, tokens: Tensor) -> Tensor:
    """Return what ``network.encode_text`` returns, but skip the columns that hold padding alone.

    Attention is causal and the first end-of-text token is read, so these columns change nothing.
    """
    end = tokens.argmax(1)
    length = int(end.max()) + 1
    x = network.token_embedding(tokens[:, :length]) + network.positional_embedding[:length]
    x = network.transformer(x, attn_mask=network.attn_mask[:length, :length])
    return network.ln_final(x)[torch.arange(len(x)), end] @ network.text_projection


def shifted(images: Tensor, generator: torch.Generator) -> Tensor:
    """Return the batch moved by one random offset of at most three pixels, edges repeated."""
    down, right = torch.randint(-SHIFT, SHIFT + 1, (2,), generator=generator).tolist()
    place = torch.arange(images.shape[-1], device=images.device)
    return images[:, :, (place + down).clamp(0, place[-1])][..., (place + right).clamp(0, place[-1])]


@torch.inference_mode()
def retrieval(network: CLIP, tokenizer: CLIPTokenizer, pictures: Pictures) -> float:
    """Return the share of pictures whose nearest neutral role caption is that of their own role."""
    captions = [neutral(role) for role in roles().values()]
    text = network.encode_text(tokenize(tokenizer, captions).to(DEVICE), normalize=True)
    parts = torch.arange(len(pictures.captions)).split(250)
    found = [
        (network.encode_image(pictures.images(part) * 2 - 1, normalize=True) @ text.T).argmax(1)
        for part in parts
    ]
    return (torch.cat(found).cpu() == pictures.labels["concept"]).float().mean().item()
