"""CLIP's features of pictures of every class, from a table of the user's or made by the model itself.

The table is like the one that `fairbench evaluate --images` takes.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fairbench.attributes import AttributeSpace
from fairbench.editing.class_pictures import class_latents
from fairbench.errors import UserError
from fairbench.features.image_features import ImageFeatures
from fairbench.images.files import batches, check_images
from fairbench.intervention import FitContext

if TYPE_CHECKING:
    from fairbench.images.rows import ImageSet


def class_features(
    context: FitContext, clip: ImageFeatures, count: int, given: "ImageSet | None"
) -> dict[str, Tensor]:
    """Return the mean features of every class, K x D of length 1 before the mean, for each attribute.

    Parameters
    ----------
    context
        Whose model makes ``count`` pictures of every class where none are ``given``.
    """
    if given is None:
        made = {name: _made(context, name, count) for name in context.space.names}
        return {name: torch.stack([_mean(clip, one) for one in pictures]) for name, pictures in made.items()}
    shown = by_class(given, context.space)
    return {name: torch.stack([_mean(clip, _read(one)) for one in paths]) for name, paths in shown.items()}


def find_references(table: str) -> "ImageSet":
    """Read the table."""
    from fairbench.images.sources import find_images

    return find_images(Path(table), None, 0)


def check_references(table: str, space: AttributeSpace) -> None:
    """Raise a ``UserError`` unless the table shows every class, and every picture of it can be read."""
    given = find_references(table)
    by_class(given, space)
    check_images([Path(path) for path in given.variants[-1]["image"]])


def by_class(given: "ImageSet", space: AttributeSpace) -> dict[str, list[list[Path]]]:
    """Return the pictures of each class, for each attribute.

    Raises
    ------
    UserError
        A class has none.
    """
    rows = given.variants[-1]

    def pictures(name: str, label: str) -> list[Path]:
        column = f"known/{name}/{label}"
        if column not in rows or not (rows[column] == 1).any():
            raise UserError(f"the references show no {label}: name the class of some in a column {name}")
        return [Path(path) for path in rows["image"][rows[column] == 1]]

    return {name: [pictures(name, label) for label in labels] for name, labels in space.classes.items()}


def _read(paths: Sequence[Path]) -> Iterator[Tensor]:
    return (images for _, images in batches(paths))


def _made(context: FitContext, name: str, count: int) -> Iterator[list[Tensor]]:
    space, model = AttributeSpace((name,)), context.model
    for k in range(space.size):
        with torch.no_grad():
            yield [model.decode(class_latents(context, space, k, count).to(model.device)).clamp(0, 1)]


def _mean(clip: ImageFeatures, pictures: Iterable[Tensor]) -> Tensor:
    features = torch.cat([clip.batched(images.to(clip.device)) for images in pictures])
    return torch.nn.functional.normalize(features, dim=-1).mean(0)
