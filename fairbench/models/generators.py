"""What a model is, as far as it is measured; and whatever makes images as one: a plugin, anybody's function.

These can be measured, not finetuned; what they do not say of themselves has a default here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from fairbench.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

AT_ONCE = 32
"""Images that are asked for at once of what does not say how many it makes in one pass."""

Generate = Callable[[Sequence[str], Sequence[int]], Any]
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
            self.made.generate(prompts[:1], [0])

    def generate(self, prompts: Sequence[str], seeds: Sequence[int], **options: Any) -> Tensor:
        """Return its images."""
        images: Tensor = self.made.generate(prompts, seeds, **options)
        return images


class FunctionModel:
    """Somebody's function as a model.

    Parameters
    ----------
    function
        Returns N x 3 x H x W floats in [0, 1], N x H x W x 3 bytes, or a list of either or of Pillow images.
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
        import torch

        images = self.function(list(prompts), list(seeds))
        if len(images) != len(prompts):
            raise UserError(
                f"{self.name} made {len(images)} images of {len(prompts)} prompts: make one of each"
            )
        parts = [self._image(image) for image in images]
        if len({part.shape for part in parts}) > 1:
            raise UserError(f"{self.name} made images of different sizes: make all of one size")
        return torch.stack(parts)

    def _image(self, image: Any) -> Tensor:
        import numpy as np
        import torch

        array = image.detach().cpu().numpy() if isinstance(image, torch.Tensor) else np.asarray(image)
        if array.dtype == np.uint8 and array.ndim == 3 and array.shape[2] == 3:
            return torch.from_numpy(array.copy()).permute(2, 0, 1).float() / 255
        if array.dtype.kind == "f" and array.ndim == 3 and array.shape[0] == 3 and np.isfinite(array).all():
            return torch.from_numpy(array.astype(np.float32))
        raise UserError(
            f"{self.name} made {array.dtype} of shape {array.shape}: "
            "make 3 x H x W finite floats in [0, 1], or H x W x 3 bytes"
        )


def as_model(given: Any, name: str) -> Model:
    """Return ``given`` as a model called ``name``: itself, if it is one of ours."""
    from fairbench.models.text_to_image import TextToImage

    ours = isinstance(given, TextToImage | FunctionModel)
    return given if ours else PluginModel(given, name)
