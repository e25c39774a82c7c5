"""CLIP as a judge without training: an image counts for the class whose prompts it is nearest to."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import nn

from fairbench.errors import UserError
from fairbench.judges.judge_file import ZeroShot
from fairbench.judges.preparation import Normalise
from fairbench.judges.sources import settings_of
from fairbench.networks import clip, load_weights

if TYPE_CHECKING:
    from torch import Tensor

CONFIG, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"
VOCABULARY = 49408
"""Tokens of the tokenizer that comes with open_clip."""


class ZeroShotReader(nn.Module):
    """The image tower of a CLIP, and one direction per class."""

    tight = False

    def __init__(
        self, network: Any, normalise: Normalise, image_size: int, directions: "Mapping[str, Tensor]"
    ) -> None:
        super().__init__()
        self.network, self.normalise, self.image_size = network, normalise, image_size
        self.names = tuple(directions)
        for name, rows in directions.items():
            self.register_buffer(f"of_{name}", rows)

    def forward(self, faces: "Tensor") -> "dict[str, Tensor]":
        r"""Return attribute -> N x K logits :math:`s \cos(f(x), t_k)`, with the scale of the CLIP."""
        features = self.network.encode_image(self.normalise(faces), normalize=True)
        scaled = self.network.logit_scale.exp() * features
        return {name: scaled @ self.get_buffer(f"of_{name}").T for name in self.names}


def load_zero_shot(network: ZeroShot, directory: Path) -> ZeroShotReader:
    """Load a CLIP that open_clip has saved, and turn the prompts of each class into a direction.

    Raises
    ------
    UserError
        A file is damaged or missing, it is no CLIP with open_clip's own tokenizer, or a prompt is too long.
    """
    where = str(directory)
    published = settings_of(directory / CONFIG)
    config, seen = published.get("model_cfg"), published.get("preprocess_cfg") or {}
    if not isinstance(config, dict) or not {"mean", "std"} <= seen.keys():
        raise UserError(f"{directory / CONFIG}: must hold model_cfg, and preprocess_cfg with mean and std")
    model: Any = clip(config, where)
    text = config["text_cfg"]
    if text.get("hf_tokenizer_name") or text.get("vocab_size", VOCABULARY) != VOCABULARY:
        raise UserError(f"{where}: has a tokenizer of its own; only CLIPs with open_clip's are supported")
    load_weights(model, directory, WEIGHTS)
    model.eval()
    length = text.get("context_length", 77)
    directions = {
        name: torch.stack([_direction(model, prompts, length, where) for prompts in classes.values()])
        for name, classes in network.attributes.items()
    }
    size = config["vision_cfg"].get("image_size", 224)
    return ZeroShotReader(model, Normalise(seen["mean"], seen["std"]), size, directions)


@torch.no_grad()
def _direction(model: Any, prompts: Sequence[str], length: int, where: str) -> "Tensor":
    """Return the normalised mean of the normalised features of ``prompts``."""
    from open_clip.tokenizer import SimpleTokenizer

    tokenizer = SimpleTokenizer(context_length=length)
    for prompt in prompts:
        if (tokens := len(tokenizer.encode(prompt)) + 2) > length:
            raise UserError(
                f"{where}: reads {length} tokens, but the prompt {prompt!r} has {tokens}: shorten it"
            )
    return F.normalize(model.encode_text(tokenizer(list(prompts)), normalize=True).mean(0), dim=0)
