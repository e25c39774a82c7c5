"""Labelled images to hold a judge against: a folder per class, or a CSV of paths and labels."""

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fairbench.errors import UserError, unknown
from fairbench.images import files

if TYPE_CHECKING:
    from torch import Tensor


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
        if path.suffix.lower() in files.IMAGES
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
    paths = tuple(_inside(place, row["path"], line) for line, row in enumerate(rows, 2))
    labels = {
        name: tuple(
            _number(row[name], name, attributes[name], f"{place} line {line}")
            for line, row in enumerate(rows, 2)
        )
        for name in names
    }
    return Labelled(paths, labels)


def _inside(place: Path, text: str | None, line: int) -> Path:
    path = files.path_inside(place.parent, text)
    if path is None:
        raise UserError(f"{place} line {line}: the path {text!r} must lie in the folder of the CSV")
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

    for which, images in files.batches(labelled.paths):
        yield images, {name: torch.tensor(numbers[which]) for name, numbers in labelled.labels.items()}
