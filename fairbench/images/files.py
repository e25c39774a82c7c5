"""Images as people have them: read whatever Pillow can, convert what would be read wrongly, refuse the rest.

Nothing is dropped in silence: a file that cannot be used is named, and the reason with it.
"""

import io
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from fairbench.errors import UserError
from fairbench.storage import atomic_write_bytes, explained

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image
    from torch import Tensor

IMAGES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"}
"""Which files of a folder are images."""
MAX_PIXELS = 2**26
"""More are refused: 8192 x 8192, four times what generators make, before they fill the memory."""
PIXELS_AT_ONCE = 2**22
"""What one batch holds: 1024 images of 64 x 64, or 16 of 512 x 512."""
AHEAD = 64
"""Images read at once, each by a thread: Pillow decodes outside the interpreter's lock."""


LEVEL = 1
"""Of PNG's compression: half the time of the usual 6, for files that are a seventh larger."""


def read_image(path: Path) -> "np.ndarray":
    """Read one image as H x W x 3 bytes, upright.

    Grey becomes three equal channels, 16 bits are rounded to 8, and transparent parts turn white.

    Raises
    ------
    UserError
        The file is missing, no image, not whole, too large, or of a kind that 8 bits cannot stand for.
    """
    import numpy as np
    from PIL import Image, ImageOps

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit below is our own
            with Image.open(path) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise UserError(_too_large(path))
                return np.asarray(_as_rgb(ImageOps.exif_transpose(image), path))
    except Image.DecompressionBombError:
        raise UserError(_too_large(path)) from None
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file") from None
    except (OSError, SyntaxError, ValueError) as error:  # Pillow calls a broken chunk a SyntaxError
        raise UserError(f"{path}: cannot be read as an image ({error}): replace it, or take it out") from None


def _as_rgb(image: "Image.Image", path: Path) -> "Image.Image":
    import numpy as np
    from PIL import Image

    if image.mode.startswith("I"):  # 16 bits of grey, which `convert` would cut off at 255
        values = np.asarray(image).astype(float)
        if values.min() < 0 or values.max() > 65535:
            raise UserError(f"{path}: has 32 bits per pixel: save it with 8 or 16")
        image = Image.fromarray((values / 257).round().astype(np.uint8))
    if image.mode == "F":
        raise UserError(f"{path}: has floating-point pixels of unknown range: save it with 8 or 16 bits")
    if image.has_transparency_data:
        on_white = Image.new("RGBA", image.size, "white")
        on_white.alpha_composite(image.convert("RGBA"))
        image = on_white
    return image.convert("RGB")


def _too_large(path: Path) -> str:
    return f"{path}: is larger than {MAX_PIXELS // 2**20} megapixels: scale it down, or take it out"


def check_images(paths: Sequence[Path]) -> None:
    """Read every image once, and raise a ``UserError`` about the first that cannot be used."""
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(paths), AHEAD):
            list(pool.map(read_image, paths[start : start + AHEAD]))


def batches(
    paths: Sequence[Path], read: "Callable[[Path], np.ndarray]" = read_image
) -> Iterator[tuple[slice, "Tensor"]]:
    """Read images in their order: which of the ``paths``, and N x 3 x H x W in [0, 1], one size at a time."""
    done = 0
    for arrays in _of_one_size(_read_ahead(paths, read)):
        yield slice(done, done + len(arrays)), as_tensor(arrays)
        done += len(arrays)


def path_inside(folder: Path, path: str | None) -> Path | None:
    """Return the file that a table in ``folder`` names; None where it would reach out of the folder."""
    root = folder.resolve()
    found = (root / (path or "")).resolve()
    return found if path and found.is_relative_to(root) else None


def _read_ahead(paths: Sequence[Path], read: "Callable[[Path], np.ndarray]") -> "Iterator[np.ndarray]":
    """Read images in their order, the next ones while the caller is busy with these."""
    with ThreadPoolExecutor() as pool:
        ahead = pool.map(read, paths[:AHEAD])
        for start in range(0, len(paths), AHEAD):
            now, ahead = ahead, pool.map(read, paths[start + AHEAD : start + 2 * AHEAD])
            yield from now


def _of_one_size(arrays: "Iterator[np.ndarray]") -> "Iterator[list[np.ndarray]]":
    for (height, width, _), same in groupby(arrays, key=lambda array: array.shape):
        batch: list[np.ndarray] = []
        for array in same:
            batch.append(array)
            if len(batch) * height * width >= PIXELS_AT_ONCE:
                yield batch
                batch = []
        if batch:
            yield batch


def as_tensor(arrays: "Sequence[np.ndarray]") -> "Tensor":
    """Stack H x W x 3 bytes of one size to N x 3 x H x W numbers in [0, 1]."""
    import numpy as np
    import torch

    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).float() / 255


def as_bytes(images: "Tensor") -> "np.ndarray":
    """Return N x H x W x 3 bytes of N x 3 x H x W images in [0, 1], rounded."""
    return images.detach().clamp(0, 1).mul(255).round().byte().permute(0, 2, 3, 1).contiguous().cpu().numpy()


def save_image(path: Path, image: "Tensor") -> None:
    """Write one 3 x H x W image in [0, 1], see `save_pixels`."""
    save_pixels(path, as_bytes(image[None])[0])


def save_pixels(path: Path, pixels: "np.ndarray") -> None:
    """Write H x W x 3 bytes as PNG, whole or not at all.

    Not synchronised one by one, which would take longer than drawing them; see `generate_missing`.
    """
    from PIL import Image

    buffer = io.BytesIO()
    with explained(path):
        Image.fromarray(pixels).save(buffer, format="png", compress_level=LEVEL)
    atomic_write_bytes(path, buffer.getvalue(), durable=False)


def is_whole(path: Path) -> bool:
    """Tell whether ``path`` is an image that can be read to its end."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            image.load()
    except (OSError, SyntaxError):  # Pillow calls a broken chunk a SyntaxError
        return False
    return True
