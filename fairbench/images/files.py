"""Images as people have them: read whatever Pillow can, convert what would be read wrongly, refuse the rest.

Nothing is dropped in silence: a file that cannot be used is named, and the reason with it.
"""

import io
import os
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from fairbench.errors import UserError
from fairbench.storage import atomic_write_bytes, explained

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image, ImageCms
    from torch import Tensor

FORMATS = ("AVIF", "BMP", "DIB", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""What Pillow may take a file for, whatever it is called: none of these starts a program, as EPS does."""
MAX_PIXELS = 2**26
"""More are refused: 8192 x 8192, four times what generators make, before they fill the memory."""
PIXELS_AT_ONCE = 2**22
"""What one batch holds: 1024 images of 64 x 64, or 16 of 512 x 512."""
PIXELS_AHEAD = 2**24
"""What is read while the caller is busy: 4096 images of 64 x 64, 64 of 512 x 512, or a single larger one."""
LEVEL = 1
"""Of PNG's compression: half the time of the usual 6, for files that are a seventh larger."""
PNG = b"\x89PNG"
"""How a file of this kind begins."""
ORIENTATION = (b"Raw profile type exif\0", b"XML:com.adobe.xmp\0")
"""Keywords of the texts of a PNG that may say which side is up."""


def read_image(path: Path) -> "np.ndarray":
    """Read one image as H x W x 3 bytes, upright, in the colours of sRGB.

    Grey becomes three equal channels, 16 bits are rounded to 8, and transparent parts turn white.

    Raises
    ------
    UserError
        The file is missing, no image, not whole, too large, or of a kind that 8 bits cannot stand for.
    """
    import numpy as np
    from PIL import ImageOps

    with opened(path) as image:
        ImageOps.exif_transpose(image, in_place=True)
        return np.asarray(_as_rgb(_in_srgb(image), path))


@contextmanager
def opened(path: Path) -> "Iterator[Image.Image]":
    """Open an image, which is read as far as it is used.

    Raises
    ------
    UserError
        Whatever is wrong with the file, also where it comes out while the image is used.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        check_is_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit below is our own
            opening = Image.open(_without_texts(path), formats=_formats())
        with opening as image:
            if image.width * image.height > MAX_PIXELS:
                raise UserError(_too_large(path))
            yield image
    except UserError:
        raise
    except Image.DecompressionBombError:
        raise UserError(_too_large(path)) from None
    except UnidentifiedImageError:
        raise UserError(_unreadable(path, f"it is none of {', '.join(_formats())}")) from None
    except Exception as error:  # whatever a damaged file makes a decoder raise
        raise UserError(_unreadable(path, str(error))) from None


def check_is_file(path: Path) -> None:
    """Raise a ``UserError`` where ``path`` is no ordinary file: to read from a pipe may never end."""
    if not path.is_file():
        if path.is_symlink():
            raise UserError(f"{path}: is a link that leads to no file: mend it, or take it out")
        if os.path.lexists(path):
            raise UserError(f"{path}: is no ordinary file: take it out")
        raise UserError(f"{path}: there is no such file")


@cache
def _formats() -> tuple[str, ...]:
    """Return the `FORMATS` that the Pillow at hand can read."""
    from PIL import Image

    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _without_texts(path: Path) -> "Path | io.BytesIO":
    """Return what to open: of a PNG a copy without its texts, which may be long and say nothing of pixels."""
    with path.open("rb") as file:
        if not file.peek(len(PNG)).startswith(PNG):
            return path
        data = file.read()
    kept, place = [data[:8]], 8
    while place < len(data):
        length, kind = int.from_bytes(data[place : place + 4]), data[place + 4 : place + 8]
        text = kind in (b"tEXt", b"zTXt", b"iTXt") and not data.startswith(ORIENTATION, place + 8)
        if not text:
            kept.append(data[place : place + 12 + length])
        place += 12 + length
    return io.BytesIO(b"".join(kept))


def _in_srgb(image: "Image.Image") -> "Image.Image":
    """Convert the colours by the profile that comes with the image; one that does not fit says nothing."""
    from PIL import ImageCms

    if not (profile := image.info.get("icc_profile")):
        return image
    try:
        given = ImageCms.getOpenProfile(io.BytesIO(profile))
        space = given.profile.xcolor_space.strip()
        if space == "RGB" and image.mode == "P":
            image = image.convert("RGBA" if image.has_transparency_data else "RGB")
        if (space, image.mode) not in (("RGB", "RGB"), ("RGB", "RGBA"), ("GRAY", "L"), ("CMYK", "CMYK")):
            return image
        mode = "RGBA" if image.mode == "RGBA" else "RGB"
        converted = ImageCms.profileToProfile(image, given, _srgb(), outputMode=mode)
    except ImageCms.PyCMSError:
        return image
    return converted or image


@cache
def _srgb() -> "ImageCms.core.CmsProfile":
    from PIL import ImageCms

    return ImageCms.createProfile("sRGB")


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
    return image if image.mode == "RGB" else image.convert("RGB")


def _too_large(path: Path) -> str:
    return f"{path}: is larger than {MAX_PIXELS // 2**20} megapixels: scale it down, or take it out"


def _unreadable(path: Path, why: str) -> str:
    return f"{path}: cannot be read as an image ({why}): replace it, or take it out"


def check_images(paths: Sequence[Path]) -> None:
    """Read every image once, and raise a ``UserError`` about the first that cannot be used."""
    deque(_read_ahead(paths, read_image), maxlen=0)


def batches(
    paths: Sequence[Path], read: "Callable[[Path], np.ndarray]" = read_image
) -> Iterator[tuple[slice, "Tensor"]]:
    """Read images in their order: which of the ``paths``, and N x 3 x H x W in [0, 1], one size at a time."""
    done = 0
    for arrays in _of_one_size(_read_ahead(paths, read)):
        yield slice(done, done + len(arrays)), as_tensor(arrays)
        done += len(arrays)


def _read_ahead(paths: Sequence[Path], read: "Callable[[Path], np.ndarray]") -> "Iterator[np.ndarray]":
    """Read images in their order, the next ones while the caller is busy, but never more than fit."""
    ahead: deque[tuple[Future[np.ndarray], int]] = deque()
    held = 0
    with ThreadPoolExecutor() as pool:  # Pillow decodes outside the interpreter's lock
        for path in paths:
            pixels = _pixels(path)
            while ahead and held + pixels > PIXELS_AHEAD:
                held -= ahead[0][1]
                yield ahead.popleft()[0].result()
            ahead.append((pool.submit(read, path), pixels))
            held += pixels
        while ahead:
            yield ahead.popleft()[0].result()


def _pixels(path: Path) -> int:
    """Return how many pixels an image has by its header; 0 where it cannot be read, which `read` will say."""
    try:
        check_is_file(path)
        with path.open("rb") as file:
            head = file.read(24)
        if head.startswith(PNG):  # `opened` would read all of it, for its texts
            return int.from_bytes(head[16:20]) * int.from_bytes(head[20:])
        with opened(path) as image:
            return image.width * image.height
    except (OSError, UserError):
        return 0


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

    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).float().div_(255)


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
    try:
        with opened(path) as image:
            image.load()
    except UserError:
        return False
    return True
