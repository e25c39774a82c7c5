"""The text tower of an open_clip CLIP as an ordinary ``CLIPTextModel``, the text encoder of a pipeline.

The numbers stay the same; only the names change, and the joint query-key-value matrix is cut in three.
"""

from collections.abc import Mapping

from open_clip.model import CLIP
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

_OUTSIDE = {
    "token_embedding.weight": "embeddings.token_embedding.weight",
    "positional_embedding": "embeddings.position_embedding.weight",
    "ln_final.weight": "final_layer_norm.weight",
    "ln_final.bias": "final_layer_norm.bias",
}
_INSIDE = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}


def clip_text_model(
    clip: CLIP,
    *,
    bos_token_id: int | None = None,
    eos_token_id: int | None = None,
    pad_token_id: int | None = None,
) -> CLIPTextModel:
    """Copy the text tower of ``clip``.

    The last hidden state is open_clip's after ``ln_final``, before the projection.

    Parameters
    ----------
    clip
        A CLIP with a causal text tower, GELU, and the end-of-text token as the highest id of the vocabulary.
    bos_token_id, eos_token_id, pad_token_id
        Ids of the tokenizer; by default the last but one, the last, and the last of the vocabulary.

    Returns
    -------
    CLIPTextModel
        In evaluation mode; ``pooler_output`` is the hidden state at the first end-of-text token.

    Raises
    ------
    ValueError
        The tower has a part that ``CLIPTextModel`` has not.
    """
    last = clip.vocab_size - 1
    block = clip.transformer.resblocks[0]
    _check(clip, block.mlp.gelu)
    config = CLIPTextConfig(
        vocab_size=clip.vocab_size,
        hidden_size=clip.transformer.width,
        intermediate_size=block.mlp.c_fc.out_features,
        num_hidden_layers=clip.transformer.layers,
        num_attention_heads=block.attn.num_heads,
        max_position_embeddings=clip.context_length,
        projection_dim=clip.visual.output_dim,
        hidden_act="gelu",
        layer_norm_eps=clip.ln_final.eps,
        bos_token_id=last - 1 if bos_token_id is None else bos_token_id,
        eos_token_id=last if eos_token_id is None else eos_token_id,
        pad_token_id=last if pad_token_id is None else pad_token_id,
    )
    model = CLIPTextModel(config)
    # Not strict: transformers 4 keeps the names one level deeper and a buffer of positions beside them.
    prefix = "text_model." if any(name.startswith("text_model.") for name in model.state_dict()) else ""
    tensors = {f"{prefix}{name}": tensor for name, tensor in renamed(clip.state_dict()).items()}
    missing, unexpected = model.load_state_dict(tensors, strict=False)
    left = [name for name in (*missing, *unexpected) if not name.endswith("position_ids")]
    if left:
        raise ValueError(f"text tower does not fit CLIPTextModel: {', '.join(left)}")
    return model.eval()


def renamed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of the text tower under the names of ``CLIPTextModel``; others are left out."""
    found = {new: tensors[old] for old, new in _OUTSIDE.items()}
    for name, tensor in tensors.items():
        if not name.startswith("transformer.resblocks."):
            continue
        _, _, index, rest = name.split(".", 3)
        layer = f"encoder.layers.{index}"
        if rest.startswith("attn.in_proj_"):
            kind = rest.removeprefix("attn.in_proj_")
            for letter, part in zip("qkv", tensor.chunk(3), strict=True):
                found[f"{layer}.self_attn.{letter}_proj.{kind}"] = part
        else:
            stem, kind = rest.rsplit(".", 1)
            found[f"{layer}.{_INSIDE.get(stem, stem)}.{kind}"] = tensor
    return found


def _check(clip: CLIP, activation: nn.Module) -> None:
    """Refuse what would be copied without an error and compute something else."""
    if clip.attn_mask is None:
        raise ValueError("CLIPTextModel is causal; this text tower is not")
    if not isinstance(activation, nn.GELU):
        raise ValueError(f"the text tower must use GELU, not {type(activation).__name__}")
