"""Folders of images, as other people lay them out."""

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
