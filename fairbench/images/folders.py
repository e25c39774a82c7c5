"""Which files of a folder are images: all of them in their natural order, and none passed over in silence."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fairbench.errors import UserError
from fairbench.images.files import check_is_file

IMAGES = {
    ".apng", ".avif", ".bmp", ".dib", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png",
    ".pnm", ".ppm", ".tif", ".tiff", ".webp",
}  # fmt: skip
"""How the names of images end."""
UNREAD = {".exr", ".hdr", ".heic", ".heif", ".j2k", ".jp2", ".jxl", ".psd", ".svg", ".tga"}
"""How those of images end that nobody here can read."""


def images_in(folder: Path) -> list[Path]:
    """List the images of a folder, img_2 before img_10; what begins with a dot is not meant to be seen.

    Raises
    ------
    UserError
        An image is of a kind that is not read, or no ordinary file.
    """
    found = [path for path in shown(folder) if path.suffix.lower() in IMAGES | UNREAD]
    for path in found:
        if path.suffix.lower() in UNREAD:
            raise UserError(f"{path}: is of a kind that is not read: convert it to PNG, or take it out")
        check_is_file(path)
    return found


def images_below(folder: Path) -> Iterator[Path]:
    """List the images of a folder and of all folders in it, also where a link leads to these.

    Raises
    ------
    UserError
        As for `images_in`, or a link leads back to a folder that it lies in.
    """
    yield from images_in(folder)
    for inner in folders_in(folder):
        if folder.resolve().is_relative_to(inner.resolve()):
            raise UserError(f"{inner}: is a link that leads back to a folder around it: take it out")
        yield from images_below(inner)


def folders_in(folder: Path) -> list[Path]:
    """List the folders in a folder, in their natural order."""
    return [path for path in shown(folder) if path.is_dir()]


def shown(folder: Path) -> list[Path]:
    """List what is in a folder, in its natural order; ``.ipynb_checkpoints`` and ``._0.png`` are hidden.

    Raises
    ------
    UserError
        A link in it leads nowhere.
    """
    found = sorted((path for path in folder.iterdir() if path.name[0] != "."), key=_natural)
    for path in found:
        if path.is_symlink() and not path.exists():
            check_is_file(path)
    return found


def _natural(path: Path) -> list[Any]:
    """Sort img_2 before img_10; only what is written in the digits of a number system counts as a number."""
    parts = re.split(r"(\d+)", path.name)
    return [(part.isdecimal(), int(part) if part.isdecimal() else part) for part in parts]
