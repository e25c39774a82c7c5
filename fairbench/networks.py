"""A small network on disk: a directory with one JSON description and its weights as safetensors.

Judges and features are kept this way, packaged ones beside the embedded world, a user's own anywhere.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from fairbench.errors import UserError, invalid, one_line, unknown
from fairbench.storage import LARGEST_JSON, atomic_write_json, atomic_write_tensors, read_bytes, sha256_of

if TYPE_CHECKING:
    from torch import Tensor, nn

WEIGHTS = "model.safetensors"
_PACKAGED = Path(__file__).parent / "portraits"
_PICKLES = (".bin", ".ckpt", ".pickle", ".pkl", ".pt", ".pth")
# What would make timm download weights, unpickle them, or change the shape of what goes in and out.
_RESERVED = {
    "cache_dir",
    "checkpoint_path",
    "features_only",
    "in_chans",
    "num_classes",
    "pretrained",
    "pretrained_cfg",
    "pretrained_cfg_overlay",
    "scriptable",
}
# What would make open_clip fetch other people's weights.
_FETCHING = ("hf_model_name", "timm_model_name", "timm_model_pretrained")

Description = TypeVar("Description", bound=BaseModel)


def packaged(room: str, file: str) -> list[str]:
    """Return the names of the networks that are shipped in ``room`` ("judges", "features")."""
    return sorted(path.parent.name for path in (_PACKAGED / room).glob(f"*/{file}"))


def find(room: str, name: str | Path, file: str) -> Path:
    """Return the directory of a packaged network, or the user's own.

    Raises
    ------
    UserError
        There is neither a packaged network nor a directory of that name, or no ``file`` in it.
    """
    known = packaged(room, file)
    if str(name) in known:
        return _PACKAGED / room / str(name)
    directory = Path(name)
    if not directory.is_dir():
        raise unknown(room.removesuffix("s"), str(name), known)
    if not (directory / file).is_file():
        raise UserError(f"{directory}: has no {file}; name a directory that holds {file} and {WEIGHTS}")
    return directory


def read_description(path: Path, model: type[Description]) -> Description:
    """Read and validate a JSON description; a fault is one line that names the file and the key."""
    try:
        content = read_bytes(path, LARGEST_JSON)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {one_line(error)}") from None
    return described(content, model, str(path))


def described(content: bytes | dict[str, Any], model: type[Description], where: str) -> Description:
    """Validate a description that is JSON text or already a dictionary."""
    try:
        if isinstance(content, bytes):
            return model.model_validate_json(content)
        return model.model_validate(content)
    except ValidationError as error:
        raise invalid(where, error, model.model_fields) from None


def backbone(architecture: str, kwargs: dict[str, Any], where: str, classes: int = 0) -> "nn.Module":
    """Build an untrained timm network that ends with pooled features, or with ``classes`` logits.

    No weights are fetched.

    Raises
    ------
    UserError
        timm has no such architecture, or a keyword is refused, by us or by timm.
    """
    import timm

    if not timm.is_model(architecture):
        raise unknown("timm architecture", architecture, timm.list_models())
    refused = sorted(_RESERVED & kwargs.keys())
    if refused:
        raise UserError(f"{where}: kwargs: take out {', '.join(refused)}; only sizes may be set here")
    try:
        return timm.create_model(architecture, num_classes=classes, in_chans=3, **kwargs)
    except Exception as error:  # timm raises whatever its layers happen to raise
        raise UserError(
            f"{where}: timm cannot build {architecture} with {kwargs}: {one_line(error)}"
        ) from error


def pooled_width(network: "nn.Module") -> int:
    """Return the number of features a timm network ends with, which a last layer may have widened."""
    timm_network: Any = network
    return int(getattr(timm_network, "head_hidden_size", timm_network.num_features))


def clip(config: dict[str, Any], where: str) -> "nn.Module":
    """Build an untrained open_clip CLIP from its configuration; no weights are fetched.

    Raises
    ------
    UserError
        A tower has no sizes, a keyword is refused, or open_clip cannot build it.
    """
    from open_clip.model import CLIP

    for part in ("vision_cfg", "text_cfg"):
        section = config.get(part)
        if not isinstance(section, dict):
            raise UserError(f"{where}: kwargs must hold {part} with the sizes of that tower")
        refused = [key for key in _FETCHING if key in section]
        if refused:
            raise UserError(f"{where}: {part}: take out {', '.join(refused)}; only sizes may be set here")
    try:
        return CLIP(**config)
    except Exception as error:  # open_clip raises whatever its layers happen to raise
        raise UserError(f"{where}: open_clip cannot build {config}: {one_line(error)}") from error


def download(repository: str, revision: str, patterns: list[str]) -> Path:
    """Return the local copy of the matching files of a Hub repository at ``revision``.

    Raises
    ------
    UserError
        It is neither in the local cache nor to be had.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=patterns))
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise UserError(
            f"{repository}@{revision} is neither in the local cache nor to be had from the Hub: "
            f"{one_line(error)}"
        ) from error


def weights_file(directory: Path, file: str = WEIGHTS) -> Path:
    """Return the path of the weights in ``directory``; a ``UserError`` where they are missing or a pickle."""
    path = directory / file
    if not path.is_file():
        pickles = sorted(other.name for other in directory.iterdir() if other.suffix in _PICKLES)
        hint = (
            f"; {pickles[0]} is a pickle, which is never read: convert it to safetensors" if pickles else ""
        )
        raise UserError(f"{directory}: has no {file}{hint}")
    return path


def load_weights(network: "nn.Module", directory: Path, file: str = WEIGHTS) -> None:
    """Fill ``network`` with the safetensors of ``directory``, in the precision of the network.

    Raises
    ------
    UserError
        The file is missing, is a pickle, is damaged, or holds tensors of another network.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = weights_file(directory, file)
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: is not a whole safetensors file ({one_line(error)})") from None
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    wrong = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    if wrong:
        raise UserError(
            f"{path}: does not fit its description: {wrong[0]} is {found.get(wrong[0], 'missing')}, "
            f"expected {expected.get(wrong[0], 'nothing')}"
        )
    network.load_state_dict(tensors)


def save_network(network: "nn.Module", description: BaseModel, directory: Path, file: str) -> None:
    """Write the weights in half precision, then the description, which completes the directory."""
    tensors = {
        name: tensor.half() if tensor.is_floating_point() else tensor
        for name, tensor in network.state_dict().items()
    }
    beyond = [name for name, tensor in tensors.items() if not tensor.isfinite().all()]
    if beyond:
        raise ValueError(f"{beyond[0]} is not finite in half precision")
    atomic_write_tensors(directory / WEIGHTS, tensors)
    atomic_write_json(directory / file, description.model_dump(mode="json"))


def identity(*files: Path) -> str:
    """Return the sha256 of the sha256 of every file's content, in the order given."""
    return sha256_of("".join(map(sha256_of, files)).encode())


def as_input(images: "Tensor", size: int) -> "Tensor":
    """Return N x 3 x ``size`` x ``size`` images in [-1, 1] of images in [0, 1]; differentiable.

    Raises
    ------
    UserError
        The images are not N x 3 x H x W floating-point numbers.
    """
    import torch

    return (resized(images, size).float() * 2 - 1).contiguous(memory_format=torch.channels_last)


def resized(images: "Tensor", size: int) -> "Tensor":
    """Return N x 3 x ``size`` x ``size`` images of images; differentiable. Raises like `as_input`."""
    import torch.nn.functional as F

    if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
        raise UserError(
            f"images must be N x 3 x H x W numbers in [0, 1], not {images.dtype} {tuple(images.shape)}"
        )
    if images.shape[-2:] == (size, size):
        return images
    return F.interpolate(images, (size, size), mode="bilinear", antialias=True)


class Sizes:
    """A batch of images at every size that a network wants to see, each made once; differentiable.

    Parameters
    ----------
    images
        N x 3 x H x W in [0, 1].
    """

    def __init__(self, images: "Tensor") -> None:
        self.images = images
        self._made: dict[int, Tensor] = {}

    def at(self, size: int | None) -> "Tensor":
        """Return the images at ``size``; as they are for None."""
        if size is None:
            return self.images
        if size not in self._made:
            self._made[size] = resized(self.images, size)
        return self._made[size]


def slices(total: int, size: int) -> list[slice]:
    """Return the parts of ``total`` rows that hold ``size`` each, at least one."""
    return [slice(start, start + size) for start in range(0, max(total, 1), size)]
