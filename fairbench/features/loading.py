"""Feature networks on disk: ``features.json``, ``model.safetensors``, and for a CLIP ``tokenizer/``."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairbench.errors import UserError, one_line
from fairbench.features.description import FeaturesDescription
from fairbench.features.image_features import ImageFeatures
from fairbench.networks import (
    described,
    find,
    identity,
    load_weights,
    packaged,
    read_description,
    save_network,
    weights_file,
)

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

DESCRIPTION = "features.json"
TOKENIZER = "tokenizer"


def list_features() -> list[str]:
    """Return the names of the packaged feature networks."""
    return packaged("features", DESCRIPTION)


def build_features(config: dict[str, Any], tokenizer: "CLIPTokenizer | None" = None) -> ImageFeatures:
    """Return features whose network is still to be trained; ``config``: the content of a ``features.json``.

    Raises
    ------
    UserError
        A key is missing, unknown or faulty, the network cannot be built, or the tokenizer does not fit it.
    """
    from fairbench.features.network import build_network

    description = described(config, FeaturesDescription, "features")
    return _joined(description, build_network(description), tokenizer, "")


def save_features(features: ImageFeatures, directory: Path | str, measured: dict[str, Any]) -> None:
    """Write ``features`` with half-precision weights and what was ``measured`` about them."""
    directory = Path(directory)
    if features.tokenizer is not None:
        features.tokenizer.save_pretrained(directory / TOKENIZER)
    description = features.description.model_copy(update={"measured": measured})
    save_network(features.network, description, directory, DESCRIPTION)


def load_features(name: str | Path) -> ImageFeatures:
    """Load packaged features by their name, or others from their directory; frozen, in evaluation mode.

    Raises
    ------
    UserError
        The name is unknown, a file is missing, damaged or a pickle, or the parts do not fit.
    """
    from fairbench.features.network import build_network

    directory = find("features", name, DESCRIPTION)
    description = read_description(directory / DESCRIPTION, FeaturesDescription)
    network = build_network(description)
    load_weights(network, directory)
    network.eval().requires_grad_(False)
    tokenizer = None if description.kind == "timm" else _tokenizer(directory / TOKENIZER)
    return _joined(description, network, tokenizer, identify_features(name)[1])


def identify_features(name: str | Path) -> tuple[str, str]:
    """Return the name and the sha256 that these features have when they are loaded, without loading them."""
    directory = find("features", name, DESCRIPTION)
    description = read_description(directory / DESCRIPTION, FeaturesDescription)
    files = [directory / DESCRIPTION, weights_file(directory)]
    if description.kind != "timm":
        files += sorted(path for path in (directory / TOKENIZER).glob("*") if path.is_file())
    return description.name, identity(*files)


def _joined(
    description: FeaturesDescription, network: Any, tokenizer: "CLIPTokenizer | None", sha256: str
) -> ImageFeatures:
    """Put the parts together where they fit: open_clip takes the highest id for the end of the text."""
    if (tokenizer is not None) != (description.kind == "open_clip"):
        raise UserError(f"features {description.name}: open_clip needs a tokenizer, timm takes none")
    if tokenizer is not None:
        size = description.kwargs["text_cfg"]["vocab_size"]
        if len(tokenizer) != size or tokenizer.eos_token_id != size - 1:
            raise UserError(
                f"features {description.name}: the tokenizer must have {size} tokens, end of text last; "
                f"it has {len(tokenizer)}, and end of text is number {tokenizer.eos_token_id}"
            )
    return ImageFeatures(description, network, tokenizer, sha256)


def _tokenizer(directory: Path) -> "CLIPTokenizer":
    from transformers import CLIPTokenizer

    if not directory.is_dir():
        raise UserError(f"{directory}: there is no such directory; put the tokenizer of the network there")
    try:
        return CLIPTokenizer.from_pretrained(directory, local_files_only=True)
    except Exception as error:  # transformers raises whatever the missing file makes it raise
        raise UserError(f"{directory}: holds no CLIP tokenizer: {one_line(error)}") from error
