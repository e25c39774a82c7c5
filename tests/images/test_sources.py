"""Folders and tables of images, as other people lay them out."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fairbench.errors import UserError
from fairbench.images.sources import find_images
from fairbench.seeding import image_seed
from fairbench.suites import PromptSuite

SUITE = PromptSuite(
    name="jobs", version="1", licence="MIT", source="made up", placeholder="job",
    templates=["a {job}"], splits={"test": ["cook", "maid", "dj"]},
)  # fmt: skip


def image(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((2, 2, 3), dtype=np.uint8)).save(path)


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


def table(tmp_path, kind="csv", **columns):
    for path in [*columns.get("path", ()), *columns.get("original", ())]:
        image(tmp_path / path)
    rows = pd.DataFrame(columns)
    if kind == "csv":
        rows.to_csv(tmp_path / "table.csv", index=False)
    else:
        rows.to_parquet(tmp_path / "table.parquet")
    return tmp_path / f"table.{kind}"


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_table_of_images_with_what_is_known_of_them(tmp_path, kind):
    source = table(
        tmp_path, kind, path=["x/1.png", "x/2.png", "3.png"], prompt=["a cook", "a maid", "a cook"],
        gender=["female", None, "male"], notes=["", "blurred", ""],
    )  # fmt: skip
    given = find_images(source, None, 0)
    (rows,), known = given.variants, given.known
    assert list(rows["prompt_id"]) == ["prompt_0", "prompt_1", "prompt_0"]
    assert list(rows["image_index"]) == [0, 0, 1]
    assert known == {"gender": ("female", "male")}
    assert rows["known/gender/female"].tolist()[::2] == [1, 0] and np.isnan(rows["known/gender/female"][1])
    assert (rows["known/face"] == 1).all()
    assert "notes" not in rows


def test_originals_are_a_variant_of_their_own(tmp_path):
    source = table(
        tmp_path, path=["1.png", "2.png"], prompt=["a cook", "a maid"], original=["o/1.png", "o/2.png"],
        gender=["male", "male"],
    )  # fmt: skip
    original, generated = find_images(source, SUITE, 5).variants
    assert set(original["variant"]) == {"original"} and set(generated["variant"]) == {"generated"}
    assert original["image"][0].endswith("o/1.png") and generated["image"][0].endswith("1.png")
    assert list(original["seed"]) == list(generated["seed"])
    assert original["known/gender/male"].isna().all() and (generated["known/gender/male"] == 1).all()


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"path": ["1.png"]}, "no column prompt"),
        ({"prompt": ["a"]}, "no column path"),
        ({"path": [], "prompt": []}, "holds no images"),
        ({"path": ["1.png", "1.png"], "prompt": ["a", "b"]}, "names 1.png twice"),
        ({"path": ["1.png", "2.png"], "prompt": ["a", ""]}, "row 2 has no prompt"),
        ({"path": ["1.png"], "prompt": ["a"], "gender": ["mail"]}, "gender in row 1 .* did you mean 'male'"),
    ],
)  # fmt: skip
def test_a_table_that_cannot_be_used(tmp_path, columns, message):
    with pytest.raises(UserError, match=message):
        find_images(table(tmp_path, **columns), None, 0)


@pytest.mark.parametrize("path", ["../secret.png", "/etc/hostname", "x/../../secret.png", ""])
def test_a_table_does_not_reach_out_of_its_folder(tmp_path, path):
    source = tmp_path / "folder" / "table.csv"
    source.parent.mkdir()
    image(tmp_path / "secret.png")
    pd.DataFrame({"path": [path], "prompt": ["a"]}).to_csv(source, index=False)
    with pytest.raises(UserError, match=r"not inside the folder|has no path"):
        find_images(source, None, 0)
    pd.DataFrame({"path": ["a.png"], "original": [path], "prompt": ["a"]}).to_csv(source, index=False)
    with pytest.raises(UserError, match="not inside the folder"):
        find_images(source, None, 0)


def test_a_link_out_of_the_folder_is_followed_no_farther(tmp_path):
    image(tmp_path / "secret.png")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "link.png").symlink_to(tmp_path / "secret.png")
    pd.DataFrame({"path": ["link.png"], "prompt": ["a"]}).to_csv(tmp_path / "folder" / "t.csv", index=False)
    with pytest.raises(UserError, match="not inside the folder"):
        find_images(tmp_path / "folder" / "t.csv", None, 0)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b'a,b\n"1'])
def test_a_file_that_is_no_table(tmp_path, content):
    for name in ("t.csv", "t.parquet"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=r"no table that can be read|no column"):
            find_images(tmp_path / name, None, 0)


def test_a_prompt_that_is_not_the_suites(tmp_path):
    with pytest.raises(UserError, match="unknown test prompt of jobs 'a cok'"):
        find_images(table(tmp_path, path=["1.png"], prompt=["a cok"]), SUITE, 0)
