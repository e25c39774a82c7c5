"""Tables of images: their prompts, their originals, what is known of them, and what a table may not do."""

import numpy as np
import pandas as pd
import pytest

from fairbench.errors import UserError
from fairbench.images.sources import find_images
from fairbench.seeding import image_seed
from tests.images.given import SUITE, image


def rows_of(source, suite=None, seed=0):
    (rows,) = find_images(source, suite, seed).variants
    return rows


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


def test_the_rows_of_a_table_are_those_of_a_run_whatever_its_order_and_form(tmp_path):
    columns = {
        "path": ["1.png", "x/2.png", "3.png"],
        "prompt": ["a maid", "a cook", "a maid"],
        "age": ["old", "", "young"],
    }
    (of_csv,), (of_parquet,) = (
        find_images(table(tmp_path / kind, kind, **columns), SUITE, 4).variants for kind in ("csv", "parquet")
    )
    first = ["variant", "prompt_id", "prompt", "concept", "image_index", "seed", "image"]
    assert list(of_csv) == [*first, "known/face", "known/age/young", "known/age/old"]
    pd.testing.assert_frame_equal(of_csv.drop(columns="image"), of_parquet.drop(columns="image"))
    assert of_csv[["prompt_id", "concept", "image_index"]].values.tolist() == [
        ["maid", "maid", 0], ["cook", "cook", 0], ["maid", "maid", 1],
    ]  # fmt: skip
    assert [*of_csv["seed"]] == [
        image_seed("jobs", "1", name, k, 4) for name, k in (("maid", 0), ("cook", 0), ("maid", 1))
    ]
    assert of_csv["image"].tolist() == [str((tmp_path / "csv" / path).resolve()) for path in columns["path"]]
    assert of_csv["known/age/old"].tolist()[::2] == [1, 0] and np.isnan(of_csv["known/age/old"][1])


def test_labels_in_capitals_or_numbers_are_not_guessed_at_and_blanks_are_passed_over(tmp_path):
    for label in ("Male", "1"):
        source = table(tmp_path, path=["1.png"], prompt=["a"], gender=[label])
        with pytest.raises(UserError, match=f"unknown class of gender in line 2 of .*table.csv {label!r}"):
            find_images(source, None, 0)
    spaced = find_images(table(tmp_path, path=["1.png"], prompt=["a"], gender=[" male"]), None, 0)
    assert spaced.variants[0]["known/gender/male"].tolist() == [1]
