"""The images of a run: lossless PNG files, each there whole or not at all.

A run that was killed makes only those that are missing.
"""

import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairbench.images.files import as_bytes, is_whole, read_image, save_pixels
from fairbench.models.generators import AT_ONCE, Model
from fairbench.storage import atomic_write_bytes, explained
from fairbench.store.layout import RunDirectory
from fairbench.store.manifest import check_made

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from torch import Tensor

KEPT = 2**29
"""Bytes of images that are kept in memory until they are judged: 600 of 512 x 512."""

Generate = Callable[[Sequence[str], Sequence[int]], "Tensor"]
"""Prompts and seeds to N x 3 x H x W images in [0, 1]."""


class Kept:
    """Images that this process has just made, as their files hold them: they need not be read back.

    Parameters
    ----------
    limit
        Bytes; what comes after them is read from its file.
    """

    def __init__(self, limit: int = KEPT) -> None:
        self._left = limit
        self._pixels: dict[Path, np.ndarray] = {}

    def keep(self, path: Path, pixels: "np.ndarray") -> None:
        """Keep H x W x 3 bytes, which the file at ``path`` holds from now on."""
        if pixels.nbytes <= self._left:
            self._left -= pixels.nbytes
            self._pixels[path] = pixels.copy()  # not a view, which would keep its whole batch

    def read(self, path: Path) -> "np.ndarray":
        """Return an image as `fairbench.images.files.read_image` does, from its file if it must be."""
        kept = self._pixels.get(path)
        return read_image(path) if kept is None else kept


def generate_missing(
    generate: Generate,
    rows: "pd.DataFrame",
    directory: Path,
    progress: Callable[[int], None],
    *,
    at_once: Callable[[], int] = lambda: AT_ONCE,
    kept: Kept | None = None,
) -> int:
    """Generate the images of ``rows`` (columns prompt, seed, image) that ``directory`` does not hold whole.

    Each batch is written while the next one is made; a kill costs one batch and what was begun of the next.

    Parameters
    ----------
    generate
        Makes a batch of images.
    rows, directory
        What is to be there.
    progress
        Told how many of them are there, whole and written.
    at_once
        Tells how many images a batch is to have; asked only where some are missing.
    kept
        Holds what is made until it is judged.

    Returns
    -------
    How many were missing.
    """
    missing = rows[[not is_whole(directory / image) for image in rows["image"]]]
    done = len(rows) - len(missing)
    progress(done)
    if missing.empty:
        return 0
    size = at_once()
    writing: list[Future[None]] = []

    def written() -> None:
        nonlocal done
        for each in writing:
            each.result()
        if writing:
            done += len(writing)
            progress(done)

    with ThreadPoolExecutor() as pool:  # Pillow compresses outside the interpreter's lock
        for start in range(0, len(missing), size):
            batch = missing.iloc[start : start + size]
            images = generate(list(batch["prompt"]), [int(seed) for seed in batch["seed"]])
            written()
            paths = [directory / image for image in batch["image"]]
            pixels = as_bytes(images)
            writing = [pool.submit(save_pixels, *each) for each in zip(paths, pixels, strict=True)]
            if kept:
                for path, each in zip(paths, pixels, strict=True):
                    kept.keep(path, each)
        written()
    os.sync()
    return len(missing)


def adopt(rows: "pd.DataFrame", directory: Path, others: Sequence[Path]) -> None:
    """Take over the images of ``rows`` that one of the ``others`` holds, as a further name of the same file.

    An image is never changed in place, so neither directory can spoil the other's.

    Raises
    ------
    UserError
        One of the others is finished, and such an image is not as it made it.
    """
    taken = defaultdict(list)
    for image in rows["image"]:
        source = next((other for other in others if (other / image).is_file()), None)
        if source is not None and not (directory / image).exists():
            taken[source].append(image)
    for source, images in taken.items():
        check_made(RunDirectory(source), images)
        for image in images:
            path = directory / image
            with explained(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                try:
                    os.link(source / image, path)
                except OSError:  # another file system, or one without links
                    atomic_write_bytes(path, (source / image).read_bytes(), durable=False)


def generate_with(
    model: Model,
    rows: "pd.DataFrame",
    directory: Path,
    progress: Callable[[int], None],
    *,
    kept: Kept,
    count: Callable[[float], None] = lambda rows: None,
    **options: Any,
) -> None:
    """Generate what is missing with ``model``, see `generate_missing`.

    ``count`` is told of every batch, before it is written, how many U-Net rows each of its images took, where
    anybody counts. ``options`` go to ``model.generate``.
    """

    def generate(prompts: Sequence[str], seeds: Sequence[int]) -> "Tensor":
        before = model.unet_rows
        images = model.generate(prompts, seeds, **options)
        if spent := model.unet_rows - before:
            count(spent / len(prompts))
        return images

    generate_missing(generate, rows, directory, progress, at_once=lambda: model.images_at_once, kept=kept)
