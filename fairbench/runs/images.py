"""The images of a run: lossless PNG files, each there whole or not at all.

A run that was killed makes only those that are missing.
"""

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairbench.reading import batches
from fairbench.storage import explained

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

BATCH = 32
"""Images held at once, and between two savings: what a kill may cost."""

Generate = Callable[[Sequence[str], Sequence[int]], "Tensor"]
"""Prompts and seeds to N x 3 x H x W images in [0, 1]."""


def generate_missing(
    generate: Generate, rows: "pd.DataFrame", directory: Path, progress: Callable[[int], None]
) -> int:
    """Generate the images of ``rows`` (columns prompt, seed, image) that ``directory`` does not hold whole.

    ``progress`` is told how many of them are there. Returns how many were missing.
    """
    missing = rows[[not is_whole(directory / image) for image in rows["image"]]]
    done = len(rows) - len(missing)
    progress(done)
    for start in range(0, len(missing), BATCH):
        batch = missing.iloc[start : start + BATCH]
        images = generate(list(batch["prompt"]), [int(seed) for seed in batch["seed"]])
        for image, path in zip(images, batch["image"], strict=True):
            save_image(directory / path, image)
        done += len(batch)
        progress(done)
    if len(missing):
        os.sync()
    return len(missing)


def read_back(rows: "pd.DataFrame", directory: Path) -> "Iterator[tuple[pd.DataFrame, Tensor]]":
    """Walk through ``rows`` with their images; these lie in ``directory``, or where an absolute path says."""
    for which, images in batches([directory / image for image in rows["image"]]):
        yield rows.iloc[which], images


def adopt(rows: "pd.DataFrame", directory: Path, others: Sequence[Path]) -> None:
    """Take over the images of ``rows`` that one of the ``others`` holds, as a further name of the same file.

    An image is never changed in place, so neither directory can spoil the other's.
    """
    for image in rows["image"]:
        path = directory / image
        source = next((other / image for other in others if (other / image).is_file()), None)
        if source is None or path.exists():
            continue
        with explained(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(source, path)
            except OSError:  # another file system, or one without links
                shutil.copyfile(source, path)


def save_image(path: Path, image: "Tensor") -> None:
    """Write one 3 x H x W image in [0, 1] as PNG, rounded to 8 bits, whole or not at all.

    Not synchronised one by one, which would take longer than drawing them; see `generate_missing`.
    """
    from PIL import Image

    pixels = image.detach().clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).cpu().numpy()
    temporary = path.with_name(f".{path.name}.tmp")
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(temporary, format="png")
        temporary.replace(path)


def is_whole(path: Path) -> bool:
    """Tell whether ``path`` is an image that can be read to its end."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            image.load()
    except (OSError, SyntaxError):  # Pillow calls a broken chunk a SyntaxError
        return False
    return True


def generator(model: Any, *, steps: int | None, guidance: float | None, hooks: Any = None) -> Generate:
    """Bind a model and its settings; an evaluation-only model is called without hooks."""
    options: dict[str, Any] = {"steps": steps, "guidance": guidance}
    if hooks is not None:
        options["hooks"] = hooks

    def generate(prompts: Sequence[str], seeds: Sequence[int]) -> "Tensor":
        return model.generate(prompts, seeds, **options)

    return generate
