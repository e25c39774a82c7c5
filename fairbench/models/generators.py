"""What a model is, as far as it is measured; and whatever makes images as one: a plugin, anybody's function.

These can be measured, not finetuned; what they do not say of themselves has a default here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from fairbench.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

ROUNDING = 0.5 / 255
"""How far beyond [0, 1] a number may be without becoming another byte."""
AT_ONCE = 32
"""Images that are asked for at once of what does not say how many it makes in one pass."""

Generate = Callable[[list[str], list[int]], Any]
"""From N prompts and N seeds to N images."""


class Model(Protocol):
    """What generates images; `fairbench.models.text_to_image.TextToImage` can be finetuned as well."""

    @property
    def name(self) -> str:
        """The name that results carry."""

    @property
    def device(self) -> Any:
        """Where it computes; None where nobody knows."""

    @property
    def unet_rows(self) -> int:
        """How many rows went through the denoiser so far; 0 where nobody counts."""

    @property
    def images_at_once(self) -> int:
        """How many images it is asked for at once."""

    @property
    def most_steps(self) -> int | None:
        """The largest number of sampling steps; None where nobody knows."""

    def check(self, prompts: Sequence[str], steps: int | None = None) -> None:
        """Raise a ``UserError`` where it cannot draw a prompt, or not in so many steps."""

    def generate(
        self, prompts: Sequence[str], seeds: Sequence[int], *, steps: int | None, guidance: float | None
    ) -> Tensor:
        """Return N x 3 x H x W images in [0, 1], each of its own seed."""


class PluginModel:
    """What a plugin of ``fairbench.models`` gives.

    Parameters
    ----------
    made
        Has ``generate(prompts, seeds, *, steps, guidance)``. Besides, it may have ``device``, ``unet_rows``,
        and ``check(prompts)``, which raises a ``UserError`` for a prompt that it cannot draw.
    name
        What results call it.
    """

    images_at_once, most_steps = AT_ONCE, None

    def __init__(self, made: Any, name: str) -> None:
        self.made, self.name = made, name

    @property
    def device(self) -> Any:
        """Where it computes, if it says so."""
        return getattr(self.made, "device", None)

    @property
    def unet_rows(self) -> int:
        """What it counts, if it does."""
        return getattr(self.made, "unet_rows", 0)

    def check(self, prompts: Sequence[str], steps: int | None = None) -> None:
        """Ask it, or else generate one image, so that what cannot work fails before anything is written."""
        if hasattr(self.made, "check"):
            self.made.check(prompts)
        else:
            self.made.generate(prompts[:1], [0], steps=None, guidance=None)

    def generate(self, prompts: Sequence[str], seeds: Sequence[int], **options: Any) -> Tensor:
        """Return its images, as one tensor."""
        return as_images(self.made.generate(prompts, seeds, **options), prompts, seeds, self.name)


class FunctionModel:
    """Somebody's function as a model.

    Parameters
    ----------
    function
        Returns N x 3 x H x W floats in [0, 1], N x H x W x 3 bytes, a list of either or of Pillow images, or
        an object that has any of these as ``images``.
    name
        What results call it; the function's own name if None.

    Raises
    ------
    UserError
        There is no name, or what the function returns are no images.
    """

    images_at_once, most_steps, device, unet_rows = AT_ONCE, None, None, 0

    def __init__(self, function: Generate, name: str | None = None) -> None:
        self.function = function
        self.name = str(name or getattr(function, "__name__", type(function).__name__))
        if "<" in self.name:
            raise UserError("a function without a name needs one: give name=...")

    def check(self, prompts: Sequence[str], steps: int | None = None) -> None:
        """Accept any prompt: a call may be dear, and cannot be known to be without effect."""

    def generate(self, prompts: Sequence[str], seeds: Sequence[int], **_: Any) -> Tensor:
        """Return its images, as one tensor."""
        return as_images(self.function(list(prompts), list(seeds)), prompts, seeds, self.name)


def as_images(made: Any, prompts: Sequence[str], seeds: Sequence[int], name: str) -> Tensor:
    """Return what a generator called ``name`` made of N prompts as N x 3 x H x W floats in [0, 1].

    Parameters
    ----------
    made
        In one of the forms that `FunctionModel` takes, or what a pipeline of diffusers returns.

    Raises
    ------
    UserError
        These are no images, not one of each prompt, of different sizes, not in [0, 1], or not finite.
    """
    import torch

    images = getattr(made, "images", made)
    try:
        count = len(images)
    except TypeError:
        raise UserError(
            f"{name} made {type(images).__name__}: return the images, one of each prompt"
        ) from None
    if count != len(prompts):
        raise UserError(f"{name} made {count} images of {len(prompts)} prompts: make one of each")
    parts = [_image(image, name) for image in images]
    if len({part.shape for part in parts}) > 1:
        raise UserError(f"{name} made images of different sizes: make all of one size")
    joined = torch.stack(parts)
    check_finite(joined, prompts, seeds)
    low, high = joined.min().item(), joined.max().item()
    if low < -ROUNDING or high > 1 + ROUNDING:
        raise UserError(f"{name} made images from {low:.4g} to {high:.4g}: bring them into [0, 1]")
    return joined


def _image(image: Any, name: str) -> Tensor:
    import numpy as np
    import torch

    if isinstance(image, torch.Tensor):
        image = image.detach().cpu()
        array = (image.float() if image.is_floating_point() else image).numpy()
    else:
        array = np.asarray(image)
    if array.dtype == np.uint8 and array.ndim == 3 and array.shape[2] == 3:
        return torch.from_numpy(array.copy()).permute(2, 0, 1).float() / 255
    if array.dtype.kind == "f" and array.ndim == 3 and array.shape[0] == 3:
        return torch.from_numpy(array.astype(np.float32))
    raise UserError(
        f"{name} made {array.dtype} of shape {array.shape}: "
        "make 3 x H x W finite floats in [0, 1], or H x W x 3 bytes"
    )


def check_finite(images: Tensor, prompts: Sequence[str], seeds: Sequence[int]) -> None:
    """Raise a ``UserError`` about the first of N images that is not finite: its file would be black."""
    for image, prompt, seed in zip(images, prompts, seeds, strict=True):
        if not image.isfinite().all():
            raise UserError(
                f"the image of {prompt!r}, seed {seed}, is not finite (NaN or infinity): "
                "where the model computes in half precision, try [dtype=float32] behind its name; "
                "else look at its scheduler and its weights"
            )


def as_model(given: Any, name: str) -> Model:
    """Return ``given`` as a model called ``name``: itself, if it is one of ours."""
    from fairbench.models.text_to_image import TextToImage

    ours = isinstance(given, TextToImage | FunctionModel)
    return given if ours else PluginModel(given, name)
