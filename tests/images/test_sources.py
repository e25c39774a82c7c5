"""Folders and tables of images, as other people lay them out."""

import pytest

from fairbench.errors import UserError
from fairbench.images.sources import find_images
from fairbench.seeding import image_seed
from tests.images.given import SUITE, image


def rows_of(source, suite=None, seed=0):
    (rows,) = find_images(source, suite, seed).variants
    return rows


def test_the_layout_of_numbered_prompts_with_their_text(tmp_path):
    for prompt, text in enumerate(("a cook", "a maid")):
        for k in (0, 2, 10):
            image(tmp_path / f"prompt_{prompt}" / f"img_{k}.jpg")
        (tmp_path / f"prompt_{prompt}" / "prompt.txt").write_text(f"{text}\n")
    (tmp_path / ".hidden").mkdir()
    rows = rows_of(tmp_path)
    assert list(rows["prompt_id"]) == ["prompt_0"] * 3 + ["prompt_1"] * 3
    assert list(rows["prompt"].unique()) == ["a cook", "a maid"]
    assert list(rows["image_index"]) == [0, 2, 10] * 2
    assert rows["seed"].isna().all()
    assert rows["image"].iloc[2].endswith("prompt_0/img_10.jpg")


def test_a_suite_gives_prompts_seeds_and_their_order(tmp_path):
    for name in ("maid", "cook"):
        image(tmp_path / "ids" / name / "1.png")
        image(tmp_path / "ids" / name / "0.png")
    rows = rows_of(tmp_path / "ids", SUITE, seed=3)
    assert list(rows["prompt_id"]) == ["cook", "cook", "maid", "maid"]
    assert list(rows["prompt"]) == ["a cook", "a cook", "a maid", "a maid"]
    assert list(rows["seed"]) == [image_seed("jobs", "1", p, k, 3) for p in ("cook", "maid") for k in (0, 1)]
    image(tmp_path / "numbers" / "prompt_2" / "img_0.png")
    assert list(rows_of(tmp_path / "numbers", SUITE)["prompt_id"]) == ["dj"]


def test_images_without_folders_are_of_one_prompt(tmp_path):
    image(tmp_path / "faces" / "a.png")
    rows = rows_of(tmp_path / "faces")
    assert rows[["prompt_id", "prompt", "concept", "image_index"]].values.tolist() == [
        ["faces", "", "faces", 0]
    ]


@pytest.mark.parametrize(
    ("layout", "suite", "message"),
    [
        (("a/0.png", "a/b/1.png"), None, "a/b: holds images too"),
        (("a/0.png", "a/1.heic"), None, "a/1.heic: is of a kind that is not read: convert it"),
        ((), None, "holds no images"),
        (("a/",), None, "a: holds no images"),
        (("a/0.png", "1.png"), None, "both images and folders"),
        (("original/a/0.png",), None, "name a folder of such folders"),
        (("cok/0.png",), SUITE, "unknown test prompt of jobs 'cok': did you mean 'cook'"),
        (("prompt_3/0.png",), SUITE, "unknown test prompt"),
    ],
)
def test_a_folder_that_cannot_be_used(tmp_path, layout, suite, message):
    for name in layout:
        (tmp_path / name).mkdir(parents=True) if name.endswith("/") else image(tmp_path / name)
    with pytest.raises(UserError, match=message):
        find_images(tmp_path, suite, 0)


def test_neither_a_folder_nor_a_table(tmp_path):
    (tmp_path / "images.txt").write_text("path,prompt")
    for name in ("images.txt", "nothing"):
        with pytest.raises(UserError, match="neither a folder nor a table"):
            find_images(tmp_path / name, None, 0)


def test_numbers_of_any_length_and_names_of_any_script(tmp_path):
    """img_2 before img_10; a time stamp of 20 digits is no number of an image, and ① none of a folder."""
    for name in ("①/0.png", "②/0.png", "x/20240117154501000001.png", "x/20240117154501000000.png", "٢/1.png"):
        image(tmp_path / name)
    rows = rows_of(tmp_path)
    assert list(rows["prompt_id"]) == ["٢", "x", "x", "①", "②"]
    assert list(rows["image_index"]) == [1, 0, 1, 0, 0]
    assert rows["image"][1].endswith("000000.png")


def test_every_usual_ending_is_an_image(tmp_path):
    for name in ("0.png", "1.avif", "2.JFIF", "3.jpe", "4.dib", "._0.png", ".ipynb_checkpoints/0.png"):
        image_of = tmp_path / "nurse" / name
        image_of.parent.mkdir(parents=True, exist_ok=True)
        image_of.write_bytes(b"")
    (tmp_path / "nurse" / "latents").mkdir()
    assert list(rows_of(tmp_path)["image_index"]) == [0, 1, 2, 3, 4]


def test_a_byte_order_mark_is_no_part_of_the_prompt(tmp_path):
    image(tmp_path / "nurse" / "0.png")
    (tmp_path / "nurse" / "prompt.txt").write_text("a nurse", encoding="utf-8-sig")
    assert rows_of(tmp_path)["prompt"][0] == "a nurse"


@pytest.mark.parametrize(("link", "to"), [("nurse/1.png", "1.png"), ("pilot", "pilot"), ("cook", "nothing")])
def test_a_link_that_leads_nowhere_is_named(tmp_path, link, to):
    image(tmp_path / "nurse" / "0.png")
    (tmp_path / link).symlink_to(to)
    with pytest.raises(UserError, match=f"{link}: is a link that leads to no file"):
        find_images(tmp_path, None, 0)
