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
    Image.fromarray(np.zeros((2, 2, 3), dtype=np.uint8)).save(path, format="png")


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
        ({"path": ["1.png", "1.png"], "prompt": ["a", "b"]}, "line 3: names 1.png as line 2 does"),
        ({"path": ["1.png", "2.png"], "prompt": ["a", ""]}, "line 3: has no prompt"),
        ({"path": ["1.png"], "prompt": ["a"], "gender": ["mail"]}, "gender in line 2 .* did you mean 'male'"),
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
    with pytest.raises(UserError, match=r"not inside the folder|line 2: has no path"):
        find_images(source, None, 0)
    pd.DataFrame({"path": ["a.png"], "original": [path], "prompt": ["a"]}).to_csv(source, index=False)
    with pytest.raises(UserError, match=r"not inside the folder|line 2: has no original"):
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
        with pytest.raises(UserError, match=r"no table that can be read|no column") as error:
            find_images(tmp_path / name, None, 0)
        assert "\n" not in str(error.value)


def test_a_prompt_that_is_not_the_suites(tmp_path):
    with pytest.raises(UserError, match="unknown test prompt of jobs 'a cok'"):
        find_images(table(tmp_path, path=["1.png"], prompt=["a cok"]), SUITE, 0)


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


def test_a_file_that_went_away_is_named_when_its_content_is_asked_for(tmp_path):
    found = find_images(table(tmp_path, path=["1.png"], prompt=["a cook"]), None, 0)
    (tmp_path / "1.png").unlink()
    with pytest.raises(UserError, match=r"1\.png: there is no such file"):
        found.sha256  # noqa: B018


def judged(source, suite=None):
    """Return which image has which prompt and label."""
    rows = rows_of(source, suite)
    names = [path.rpartition("/")[2] for path in rows["image"]]
    return sorted(zip(names, rows["prompt"], rows["known/gender/male"], strict=True))


@pytest.mark.parametrize("how", ["shuffled", "sorted", "filtered", "concatenated", "indexed"])
@pytest.mark.parametrize("suite", [None, SUITE])
def test_an_index_of_pandas_moves_no_label(tmp_path, how, suite):
    """The same as the CSV of the same rows."""
    rows = pd.DataFrame({"path": [f"{k}.png" for k in range(6)], "prompt": ["a cook", "a maid", "a dj"] * 2,
                         "gender": ["male"] * 3 + ["female"] * 3})  # fmt: skip
    changed = {
        "shuffled": rows.sample(frac=1, random_state=1),
        "sorted": rows.sort_values("prompt"),
        "filtered": rows[rows["prompt"] != "a cook"],
        "concatenated": pd.concat([part.reset_index(drop=True) for part in (rows[:3], rows[3:])]),
        "indexed": rows.set_index("path"),
    }[how]
    for path in rows["path"]:
        image(tmp_path / path)
    changed.to_parquet(tmp_path / "t.parquet")
    changed.to_csv(tmp_path / "t.csv", index=how == "indexed")
    wanted = sorted(zip(*(changed.reset_index()[name] for name in ("path", "prompt", "gender")), strict=True))
    assert judged(tmp_path / "t.parquet", suite) == [(p, t, float(g == "male")) for p, t, g in wanted]
    assert judged(tmp_path / "t.parquet", suite) == judged(tmp_path / "t.csv", suite)
