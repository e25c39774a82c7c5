"""Images of every kind that people have, against pixels worked out by hand."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from fairbench.errors import UserError
from fairbench.images import files
from fairbench.images.files import batches, check_images, path_inside, read_image

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)


def saved(tmp_path, image, name="image.png", **options):
    image.save(tmp_path / name, **options)
    return tmp_path / name


def test_colours_stay_as_they_are(tmp_path):
    np.testing.assert_array_equal(read_image(saved(tmp_path, Image.fromarray(PIXELS))), PIXELS)


def test_grey_becomes_three_equal_channels(tmp_path):
    grey = PIXELS[..., 0]
    np.testing.assert_array_equal(
        read_image(saved(tmp_path, Image.fromarray(grey))), np.repeat(grey[..., None], 3, axis=2)
    )


def test_sixteen_bits_are_rounded_not_cut_off(tmp_path):
    deep = np.array([[0, 256, 32768, 65535]], dtype=np.uint16)
    found = read_image(saved(tmp_path, Image.fromarray(deep)))
    np.testing.assert_array_equal(found[0, :, 0], [0, 1, 128, 255])


def test_transparent_parts_are_white(tmp_path):
    alpha = np.zeros((5, 7, 1), dtype=np.uint8)
    alpha[0] = 255
    alpha[1] = 128
    found = read_image(saved(tmp_path, Image.fromarray(np.concatenate([PIXELS, alpha], axis=2))))
    np.testing.assert_array_equal(found[0], PIXELS[0])
    np.testing.assert_allclose(found[1], PIXELS[1] * (128 / 255) + 255 * (127 / 255), atol=1)
    assert (found[2:] == 255).all()
    palette = Image.fromarray(np.array([[0, 1]], dtype=np.uint8), "P")
    palette.putpalette([10, 20, 30, 40, 50, 60])
    found = read_image(saved(tmp_path, palette, transparency=1))
    assert found.tolist() == [[[10, 20, 30], [255, 255, 255]]]


def test_a_photograph_is_turned_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = saved(tmp_path, Image.fromarray(PIXELS), "photo.png", exif=exif)
    np.testing.assert_array_equal(read_image(path), np.rot90(PIXELS, -1))


def bomb(path):
    """Write a PNG of a few bytes that says it is 60000 x 60000."""
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")]
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
            for kind, data in chunks
        )
    )


def test_what_cannot_be_used_is_named(tmp_path, monkeypatch):
    whole = saved(tmp_path, Image.fromarray(np.tile(PIXELS, (9, 9, 1))))
    (tmp_path / "torn.png").write_bytes(whole.read_bytes()[:-300])
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "empty.png").write_bytes(b"")
    for name in ("torn.png", "text.png", "empty.png"):
        with pytest.raises(UserError, match=f"{name}: cannot be read as an image"):
            read_image(tmp_path / name)
    with pytest.raises(UserError, match="there is no such file"):
        read_image(tmp_path / "missing.png")
    with pytest.raises(UserError, match="floating-point"):
        read_image(saved(tmp_path, Image.fromarray(np.ones((2, 2), dtype=np.float32)), "f.tiff"))
    with pytest.raises(UserError, match="32 bits"):
        read_image(saved(tmp_path, Image.fromarray(np.full((2, 2), 70000, dtype=np.int32)), "i.tiff"))
    bomb(tmp_path / "bomb.png")
    with pytest.raises(UserError, match="larger than 64 megapixels"):
        read_image(tmp_path / "bomb.png")
    monkeypatch.setattr(files, "MAX_PIXELS", 30)
    with pytest.raises(UserError, match="scale it down"):
        read_image(saved(tmp_path, Image.fromarray(PIXELS)))
    with pytest.raises(UserError, match=r"torn\.png"):
        check_images([tmp_path / "torn.png"])


@pytest.mark.parametrize(("ahead", "at_once"), [(64, 2**22), (2, 70), (1, 1)])
def test_batches_hold_one_size_each_and_keep_the_order(tmp_path, monkeypatch, ahead, at_once):
    monkeypatch.setattr(files, "AHEAD", ahead)
    monkeypatch.setattr(files, "PIXELS_AT_ONCE", at_once)
    shapes = [(5, 7), (5, 7), (5, 7), (4, 4), (5, 7)]
    for k, shape in enumerate(shapes):
        Image.fromarray(np.full((*shape, 3), 10 * k, dtype=np.uint8)).save(tmp_path / f"{k}.png")
    seen = []
    for which, images in batches([tmp_path / f"{k}.png" for k in range(5)]):
        assert len({shapes[k] for k in range(5)[which]}) == 1
        assert images.shape[1:] == (3, *shapes[which.start]) and len(images) <= max(1, at_once // 20)
        seen += [round(float(image.mean()) * 25.5) for image in images]
        assert seen == list(range(which.stop))
    assert seen == [0, 1, 2, 3, 4]


def test_a_table_reaches_for_nothing_outside_its_folder(tmp_path):
    assert path_inside(tmp_path, "x/../a.png") == tmp_path.resolve() / "a.png"
    assert [path_inside(tmp_path / "in", path) for path in ("../a.png", "/etc/hostname", "", None)] == [
        None
    ] * 4
