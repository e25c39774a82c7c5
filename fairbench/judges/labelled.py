"""Labelled images to hold a judge against: a folder per class, or a table of paths and labels."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fairbench.errors import UserError, unknown
from fairbench.images import files
from fairbench.images.folders import folders_in, images_below, images_in
from fairbench.images.table_file import read_table

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
        A folder with one folder per class, such as ``female/`` and ``male/``; or a table, CSV or parquet:
        the column ``path`` (seen from the table's folder) and one per attribute, empty where the class is
        not known.
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
    classes = {folder.name: folder for folder in folders_in(place)}
    fitting = [name for name, labels in attributes.items() if classes and set(classes) <= set(labels)]
    if len(fitting) != 1:
        known = "; ".join(
            f"{name}: {', '.join(labels)}" for name, labels in attributes.items() if len(labels) < 20
        )
        raise UserError(f"{place}: must hold one folder per class of one attribute ({known}), or use a CSV")
    if loose := images_in(place):
        raise UserError(f"{loose[0]}: lies in no folder of a class: move it into one, or take it out")
    labels = attributes[fitting[0]]
    found = [(path, labels.index(name)) for name, folder in classes.items() for path in images_below(folder)]
    if not found:
        raise UserError(f"{place}: holds no images")
    paths, numbers = zip(*found, strict=True)
    return Labelled(paths, {fitting[0]: numbers})


def _table(place: Path, attributes: Mapping[str, tuple[str, ...]]) -> Labelled:
    table = read_table(place)
    names = [name for name in attributes if name.lower() in table.rows]
    if "path" not in table.rows or not names:
        raise UserError(f"{place}: must have the column path, and one of {', '.join(attributes)}")
    if table.rows.empty:
        raise UserError(f"{place}: has no rows")
    paths = tuple(table.paths("path"))
    labels = {
        name: tuple(
            _number(text, name, attributes[name], table.where(row))
            for row, text in enumerate(table.rows[name.lower()])
        )
        for name in names
    }
    return Labelled(paths, labels)


def _number(label: str, attribute: str, labels: tuple[str, ...], where: str) -> int:
    if not label:
        return -1
    if label not in labels:
        raise UserError(f"{where}: {unknown(f'class of {attribute}', label, labels)}")
    return labels.index(label)


def batches(labelled: Labelled) -> "Iterator[tuple[Tensor, dict[str, Tensor]]]":
    """Yield N x 3 x H x W images in [0, 1] with their labels, in order; each batch has a size of its own."""
    import torch

    for which, images in files.batches(labelled.paths):
        yield images, {name: torch.tensor(numbers[which]) for name, numbers in labelled.labels.items()}
