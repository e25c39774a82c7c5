"""Images of every kind that people have, against pixels worked out by hand."""

import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from fairbench.errors import UserError
from fairbench.images import files
from fairbench.images.files import batches, check_images, is_whole, read_image

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


def png(path, size, *chunks):
    """Write a PNG chunk by chunk: its header, those given, its end."""
    header = struct.pack(">IIBBBBB", *size, 8, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
            for kind, data in [(b"IHDR", header), *chunks, (b"IEND", b"")]
        )
    )
    return path


def bomb(path):
    """Write a PNG of a few bytes that says it is 60000 x 60000."""
    png(path, (60000, 60000), (b"IDAT", zlib.compress(bytes(1000))))


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


@pytest.mark.parametrize(("ahead", "at_once"), [(2**24, 2**22), (70, 70), (1, 1)])
def test_batches_hold_one_size_each_and_keep_the_order(tmp_path, monkeypatch, ahead, at_once):
    monkeypatch.setattr(files, "PIXELS_AHEAD", ahead)
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


def test_a_program_is_never_started_by_what_calls_itself_a_png(tmp_path, monkeypatch):
    """Pillow goes by content: an EPS would be handed to Ghostscript."""
    from PIL import EpsImagePlugin

    started = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *given, **more: started.append(given))
    drawing = "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"
    (tmp_path / "0.png").write_text(drawing)
    with pytest.raises(UserError, match=r"0\.png: cannot be read as an image \(it is none of AVIF, BMP"):
        read_image(tmp_path / "0.png")
    assert not is_whole(tmp_path / "0.png") and not started


def test_every_image_is_opened_with_a_list_of_kinds():
    lines = [
        line
        for root in ("fairbench", "methods", "baselines")
        for path in Path(files.__file__).parents[2].joinpath(root).rglob("*.py")
        for line in path.read_text().splitlines()
        if "Image.open(" in line
    ]
    assert len(lines) > 1 and all("formats=" in line for line in lines)


def test_a_pipe_or_a_link_to_nowhere_is_no_image(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "lost.png").symlink_to("nothing.png")
    (tmp_path / "folder.png").mkdir()
    for name, message in [("pipe", "no ordinary file"), ("folder", "no ordinary file"),
                          ("loop", "leads to no file"), ("lost", "leads to no file")]:  # fmt: skip
        with pytest.raises(UserError, match=f"{name}.png: .*{message}"):
            read_image(tmp_path / f"{name}.png")
        assert not is_whole(tmp_path / f"{name}.png")


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("bytes_of_text", [1_500_000, 80_000_000])
def test_long_texts_of_a_png_are_not_read(tmp_path, place, bytes_of_text):
    text = b"workflow\0\0" + zlib.compress(bytes(bytes_of_text))
    lines = b"".join(b"\0" + row.tobytes() for row in PIXELS)
    chunks = [(b"zTXt", text), (b"IDAT", zlib.compress(lines))]
    path = png(tmp_path / "0.png", (7, 5), *(chunks if place == "before" else reversed(chunks)))
    np.testing.assert_array_equal(read_image(path), PIXELS)
    assert is_whole(path)


def test_a_text_that_says_which_side_is_up_is_read(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    blob = b"Exif\0\0" + exif.tobytes().removeprefix(b"Exif\0\0")
    text = PngInfo()
    text.add_text("Raw profile type exif", f"\nexif\n{len(blob):8}\n{blob.hex()}\n")
    path = saved(tmp_path, Image.fromarray(PIXELS), pnginfo=text)
    np.testing.assert_array_equal(read_image(path), np.rot90(PIXELS, -1))


def test_a_damaged_avif_is_named(tmp_path):
    if "AVIF" not in files._formats():
        pytest.skip("this Pillow reads no AVIF")
    path = saved(tmp_path, Image.fromarray(np.tile(PIXELS, (9, 9, 1))), "0.avif")
    whole = path.read_bytes()
    data = whole.index(b"mdat") + 4
    path.write_bytes(whole[:data] + bytes(len(whole) - data))
    with pytest.raises(UserError, match=r"0\.avif: cannot be read as an image"):
        read_image(path)
    assert not is_whole(path)


def wide_profile(gamma):
    """Build the profile of a wide gamut by the letter of ICC.1:2001: three primaries and one curve."""

    def fixed(*values):
        return b"".join(struct.pack(">i", round(value * 65536)) for value in values)

    primaries = {  # of ProPhoto RGB, seen under D50
        b"rXYZ": (0.7977, 0.2880, 0.0), b"gXYZ": (0.1352, 0.7119, 0.0), b"bXYZ": (0.0313, 0.0001, 0.8249)
    }  # fmt: skip
    curve = b"curv\0\0\0\0" + struct.pack(">IHxx", 1, round(gamma * 256))
    tags = {name: b"XYZ \0\0\0\0" + fixed(*values) for name, values in primaries.items()}
    tags |= {b"wtpt": b"XYZ \0\0\0\0" + fixed(0.9642, 1.0, 0.8249)}
    tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    place, table, content = 128 + 4 + 12 * len(tags), struct.pack(">I", len(tags)), b""
    for name, data in tags.items():
        table += name + struct.pack(">II", place + len(content), len(data))
        content += data
    header = struct.pack(">I4sI4s4s4s", place + len(content), b"none", 0x02400000, b"mntr", b"RGB ", b"XYZ ")
    header += bytes(12) + b"acsp" + bytes(28) + fixed(0.9642, 1.0, 0.8249) + bytes(48)
    return header + table + content


def test_an_embedded_colour_profile_is_converted_to_srgb(tmp_path):
    """Against the matrices of both spaces, and the curve of sRGB."""
    skin = np.array([[130, 92, 67], [96, 65, 52], [58, 49, 42]], dtype=np.uint8)
    to_xyz = np.array([[0.7977, 0.1352, 0.0313], [0.2880, 0.7119, 0.0001], [0, 0, 0.8249]])
    from_xyz = np.linalg.inv(  # sRGB seen under D50
        np.array([[0.4360, 0.3851, 0.1431], [0.2225, 0.7169, 0.0606], [0.0139, 0.0971, 0.7141]])
    )
    linear = ((skin / 255) ** 1.8 @ to_xyz.T @ from_xyz.T).clip(0, 1)
    wanted = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055) * 255
    image = Image.fromarray(skin[None])
    path = saved(tmp_path, image, icc_profile=wide_profile(1.8))
    np.testing.assert_allclose(read_image(path)[0], wanted, atol=1.5)
    assert np.abs(wanted - skin).max() > 10
    with_alpha = image.copy()
    with_alpha.putalpha(255)
    path = saved(tmp_path, with_alpha, "alpha.png", icc_profile=wide_profile(1.8))
    np.testing.assert_allclose(read_image(path)[0], wanted, atol=1.5)
    indexed = image.quantize(3)
    path = saved(tmp_path, indexed, "indexed.png", icc_profile=wide_profile(1.8))
    np.testing.assert_allclose(read_image(path)[0], wanted, atol=3)


def test_a_profile_that_changes_nothing_or_does_not_fit_leaves_the_pixels(tmp_path):
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for profile in (srgb, b"no profile"):
        path = saved(tmp_path, Image.fromarray(PIXELS), icc_profile=profile)
        np.testing.assert_array_equal(read_image(path), PIXELS)
    grey = saved(tmp_path, Image.fromarray(PIXELS[..., 0]), "grey.png", icc_profile=srgb)
    np.testing.assert_array_equal(read_image(grey)[..., 1], PIXELS[..., 0])


def test_no_more_is_read_ahead_than_fits(tmp_path, monkeypatch):
    """Four of 100 pixels fit; one of 900 is read alone."""
    monkeypatch.setattr(files, "PIXELS_AHEAD", 400)
    sizes = [10] * 6 + [30, 30] + [10] * 3
    paths = [saved(tmp_path, Image.new("RGB", (size, size)), f"{k}.png") for k, size in enumerate(sizes)]
    begun, most = [], {}

    def read(path):
        begun.append(path)
        return read_image(path)

    for k, _ in enumerate(files._read_ahead(paths, read)):
        most[k] = sum(sizes[int(path.stem)] ** 2 for path in begun) - sum(size**2 for size in sizes[:k])
    assert max(most.values()) <= 900 and most[0] <= 400 and most[6] == 900 and begun == paths


def test_large_images_are_read_within_a_bound_of_memory(tmp_path):
    """Six of 16 megapixels are 275 MB, and more while they are decoded; one by one they take 160."""
    path = saved(tmp_path, Image.new("RGB", (4000, 4000)), "0.png")
    paths = [path, *(path.with_name(f"{k}.png") for k in range(1, 6))]
    for copy in paths[1:]:
        copy.hardlink_to(path)
    code = f"""
import resource, numpy
from pathlib import Path
from fairbench.images.files import check_images
check_images([])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
check_images([Path(path) for path in {[str(path) for path in paths]}])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) / 1024 < 250
