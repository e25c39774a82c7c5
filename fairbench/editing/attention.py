"""Closed-form edits of the key and value matrices through which a U-Net reads its prompt."""

from collections.abc import Callable, Mapping

from torch import Tensor

from fairbench.editing.linear import ridge
from fairbench.models.text_to_image import TextToImage


def key_value_weights(model: TextToImage) -> dict[str, Tensor]:
    """Return the matrices of all cross-attentions, named as `fairbench.models.weights` takes them."""
    return {
        f"unet.{name}": weight.detach()
        for name, weight in model.pipeline.unet.named_parameters()
        if name.endswith(("attn2.to_k.weight", "attn2.to_v.weight"))
    }


def edited(
    weights: Mapping[str, Tensor],
    keys: Tensor,
    values: Callable[[Tensor], Tensor],
    regularisation: float,
    importance: Tensor,
) -> dict[str, Tensor]:
    """Solve the ridge system of every matrix.

    Parameters
    ----------
    weights
        What `key_value_weights` returned, or an edit of it.
    keys : Tensor, n x D
        Rows of prompt embeddings.
    values
        ``values(weight) -> n x out``: what this matrix should make of them.
    regularisation, importance
        See `ridge`.
    """
    return {
        name: ridge(weight, keys, values(weight.double()), regularisation, importance).to(weight)
        for name, weight in weights.items()
    }
