"""Feature networks: what an image looks like as a vector, and with CLIP, what a prompt says.

The numbers that need them (CLIP-T, CLIP-I, DINO-like, FID-like) and the preservation loss use this one door.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fairbench.errors import UserError
from fairbench.networks import Sizes, as_input, pooled_width
from fairbench.precision import exact

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn
    from transformers import CLIPTokenizer

    from fairbench.features.description import FeaturesDescription


@dataclass(frozen=True, eq=False)
class ImageFeatures:
    """A network that turns images, and if it is a CLIP also prompts, into vectors of length ``dim``.

    Parameters
    ----------
    description
        What ``features.json`` says.
    network
        A timm backbone or an open_clip CLIP; frozen and in evaluation mode where it was loaded.
    tokenizer
        Of a CLIP only; its end-of-text token has the highest id.
    sha256
        Of description, weights and tokenizer together; empty for a network that is not on disk.
    """

    description: "FeaturesDescription"
    network: "nn.Module"
    tokenizer: "CLIPTokenizer | None" = None
    sha256: str = ""

    @property
    def name(self) -> str:
        """The name that results carry."""
        return self.description.name

    @property
    def dim(self) -> int:
        """The length of a feature vector."""
        if self.description.kind == "open_clip":
            return int(self.description.kwargs["embed_dim"])
        return pooled_width(self.network)

    @property
    def image_size(self) -> int:
        """The size at which the network looks at images."""
        return self.description.image_size

    @property
    def device(self) -> "torch.device":
        """Where the network is."""
        return next(self.network.parameters()).device

    def to(self, device: "torch.device | str") -> "ImageFeatures":
        """Move the network to ``device`` and return the features."""
        self.network.to(device)
        return self

    def __call__(self, images: "Tensor") -> "Tensor":
        """Return N x ``dim`` features, not normalised; gradients reach the images.

        Parameters
        ----------
        images
            N x 3 x H x W in [0, 1]; scaled down or up to the size the network was trained with.

        Raises
        ------
        UserError
            The images have another shape, or a feature is not finite.
        """
        inputs = as_input(images.to(self.device), self.image_size)
        network: Any = self.network
        features: Tensor = network.encode_image(inputs) if self.tokenizer is not None else network(inputs)
        if not features.isfinite().all():
            raise UserError(
                f"features {self.name}: not finite; check that the images are, or use other features"
            )
        return features

    def batched(self, images: "Tensor", batch_size: int = 256) -> "Tensor":
        """Return the same without gradients, ``batch_size`` images at once; N may be 0."""
        import torch

        with torch.inference_mode(), exact():
            parts = [self(part) for part in images.split(batch_size)]
        # Joined outside inference mode: the result may then enter a computation that has gradients.
        return torch.cat(parts)

    def text(self, prompts: Sequence[str], *, truncate: bool = False) -> "Tensor":
        """Return N x ``dim`` features of prompts, not normalised, without gradients.

        With ``truncate``, a prompt that is too long loses words from its end; never the end-of-text token,
        whose place is where CLIP reads the meaning of the whole.

        Raises
        ------
        UserError
            The network reads no text, or a prompt has more tokens than it reads and may not be cut.
        """
        import torch

        if self.tokenizer is None:
            raise UserError(f"features {self.name} read no text; use features of the kind open_clip")
        network: Any = self.network
        with torch.inference_mode():
            tokens = self._tokens(prompts, self.tokenizer, truncate)
            features = network.encode_text(tokens.to(self.device))
        return features.clone()

    def too_long(self, prompt: str) -> bool:
        """Tell whether a prompt has more tokens than the network reads; never of one that reads no text."""
        if self.tokenizer is None:
            return False
        ids = self.tokenizer(prompt, truncation=False).input_ids
        return len(ids) > self.description.kwargs["text_cfg"]["context_length"]

    def _tokens(self, prompts: Sequence[str], tokenizer: "CLIPTokenizer", truncate: bool) -> "Tensor":
        """Return N x L ids, filled up with the end-of-text token, which the network looks for first."""
        import torch

        length = self.description.kwargs["text_cfg"]["context_length"]
        tokens = torch.full((len(prompts), length), tokenizer.eos_token_id)
        for row, prompt in zip(tokens, prompts, strict=True):
            ids = tokenizer(prompt, truncation=False).input_ids
            if len(ids) > length and truncate:
                ids = [*ids[: length - 1], ids[-1]]
            if len(ids) > length:
                raise UserError(
                    f"features {self.name} read {length} tokens, but the prompt {prompt!r} has {len(ids)}: "
                    "shorten it"
                )
            row[: len(ids)] = torch.tensor(ids)
        return tokens


def seen_by(
    networks: "Iterable[ImageFeatures]", images: "Tensor"
) -> "Iterator[tuple[ImageFeatures, Tensor]]":
    """Yield every network with its features of the images, which are scaled once for each size."""
    sizes = Sizes(images)
    for network in networks:
        yield network, network(sizes.at(network.image_size))


def cosine(a: "Tensor", b: "Tensor") -> "Tensor":
    """Return ``a_n . b_n / (|a_n| |b_n|)`` for the rows of two N x D tensors: N cosines in [-1, 1]."""
    import torch.nn.functional as F

    return F.cosine_similarity(a, b, dim=-1)
