"""Labelled images to hold a judge against: a folder per class, or a CSV of paths and labels."""

import csv
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fairbench.errors import UserError, unknown

if TYPE_CHECKING:
    from torch import Tensor

BATCH = 64
IMAGES = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}


@dataclass(frozen=True)
class Labelled:
    """Paths of N images, and attribute -> N class numbers, -1 where a class is not known."""

    paths: tuple[Path, ...]
    labels: dict[str, tuple[int, ...]]


def read_labelled(place: Path, attributes: Mapping[str, tuple[str, ...]]) -> Labelled:
    """Find labelled images.

    Parameters
    ----------
    place
        A folder with one folder per class, such as ``female/`` and ``male/``; or a CSV with the column
        ``path`` (seen from the CSV's folder) and one per attribute, empty where the class is not known.
    attributes
        What the judge reads: attribute -> labels.

    Raises
    ------
    UserError
        There are no images, no labels of an attribute, an unknown label, or a path that leaves the folder.
    """
    if place.is_dir():
        return _folders(place, attributes)
    if place.is_file():
        return _table(place, attributes)
    raise UserError(f"{place}: there is no such folder or CSV file")


def _folders(place: Path, attributes: Mapping[str, tuple[str, ...]]) -> Labelled:
    classes = {folder.name: folder for folder in sorted(place.iterdir()) if folder.is_dir()}
    fitting = [name for name, labels in attributes.items() if classes and set(classes) <= set(labels)]
    if len(fitting) != 1:
        known = "; ".join(
            f"{name}: {', '.join(labels)}" for name, labels in attributes.items() if len(labels) < 20
        )
        raise UserError(f"{place}: must hold one folder per class of one attribute ({known}), or use a CSV")
    labels = attributes[fitting[0]]
    found = [
        (path, labels.index(name))
        for name, folder in classes.items()
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in IMAGES
    ]
    if not found:
        raise UserError(f"{place}: holds no images")
    paths, numbers = zip(*found, strict=True)
    return Labelled(paths, {fitting[0]: numbers})


def _table(place: Path, attributes: Mapping[str, tuple[str, ...]]) -> Labelled:
    try:
        with place.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            rows, columns = list(reader), set(reader.fieldnames or ())
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{place}: is not a CSV in UTF-8: {error}") from None
    names = [name for name in attributes if name in columns]
    if "path" not in columns or not names:
        raise UserError(f"{place}: must have the column path, and one of {', '.join(attributes)}")
    if not rows:
        raise UserError(f"{place}: has no rows")
    root = place.parent.resolve()
    paths = tuple(_inside(root, row["path"], f"{place} line {line}") for line, row in enumerate(rows, 2))
    labels = {
        name: tuple(
            _number(row[name], name, attributes[name], f"{place} line {line}")
            for line, row in enumerate(rows, 2)
        )
        for name in names
    }
    return Labelled(paths, labels)


def _inside(root: Path, text: str | None, where: str) -> Path:
    path = (root / (text or "")).resolve()
    if not text or not path.is_relative_to(root):
        raise UserError(f"{where}: the path {text!r} must lie in the folder of the CSV")
    return path


def _number(text: str | None, attribute: str, labels: tuple[str, ...], where: str) -> int:
    if not (label := (text or "").strip()):
        return -1
    if label not in labels:
        raise UserError(f"{where}: {unknown(f'class of {attribute}', label, labels)}")
    return labels.index(label)


def batches(labelled: Labelled) -> "Iterator[tuple[Tensor, dict[str, Tensor]]]":
    """Yield N x 3 x H x W images in [0, 1] with their labels, in order; each batch has a size of its own."""
    import torch

    waiting: list[Tensor] = []
    start = 0
    for place, path in enumerate(labelled.paths):
        image = read_image(path)
        if waiting and (len(waiting) == BATCH or image.shape != waiting[0].shape):
            yield torch.stack(waiting), _labels(labelled, start, place)
            waiting, start = [], place
        waiting.append(image)
    yield torch.stack(waiting), _labels(labelled, start, len(labelled.paths))


def _labels(labelled: Labelled, start: int, stop: int) -> "dict[str, Tensor]":
    import torch

    return {name: torch.tensor(numbers[start:stop]) for name, numbers in labelled.labels.items()}


def read_image(path: Path) -> "Tensor":
    """Read any picture as 3 x H x W in [0, 1]: alpha on white, one channel as grey, 16 bits as they are.

    Raises
    ------
    UserError
        It is missing, no picture, cut off, or larger than Pillow thinks is safe.
    """
    import numpy as np
    import torch
    from PIL import Image

    dangers = Image.DecompressionBombWarning, Image.DecompressionBombError
    try:
        with warnings.catch_warnings(action="error", category=dangers[0]), Image.open(path) as image:
            if image.mode.startswith("I;16"):
                grey = torch.from_numpy(np.asarray(image).astype(np.float32) / 65535)
                return grey.expand(3, *grey.shape)
            picture = image.convert("RGBA" if image.has_transparency_data else "RGB")
    except (OSError, SyntaxError, ValueError, *dangers) as error:
        raise UserError(f"{path}: cannot be read as a picture: {' '.join(str(error).split())}") from None
    if picture.mode == "RGBA":
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255
