"""Which image is which: planned rows, their seeds, and images that are there already."""

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fairbench.errors import UserError
from fairbench.images.rows import ImageSet, as_planned, of_suite, planned, planned_image, read_back
from fairbench.suites import PromptSuite
from tests.images.given import SUITE

NAMED = PromptSuite(
    name="named", version="2", licence="MIT", source="made up", placeholder="job", measures="obedience",
    words={"gender": {"female": ["female"]}, "age": {"old": ["old"]}},
    templates=["a female {job}", "an old {job}"], splits={"test": ["cook"]},
)  # fmt: skip


def seed_of(*identity):
    """The seed of an image, as the module `fairbench.seeding` states it."""
    digest = hashlib.sha256("|".join(map(str, identity)).encode()).digest()
    return int.from_bytes(digest[:8], "big") % 2**63


def test_the_images_of_a_variant_are_listed_prompt_by_prompt():
    rows = planned("nudge", "debiased", SUITE, SUITE.prompts("test")[:2], 2, 3)
    assert list(rows) == ["variant", "prompt_id", "prompt", "concept", "image_index", "seed", "image"]
    assert rows.drop(columns="seed").values.tolist() == [
        ["nudge", "cook", "a cook", "cook", 0, "images/debiased/cook/0.png"],
        ["nudge", "cook", "a cook", "cook", 1, "images/debiased/cook/1.png"],
        ["nudge", "maid", "a maid", "maid", 0, "images/debiased/maid/0.png"],
        ["nudge", "maid", "a maid", "maid", 1, "images/debiased/maid/1.png"],
    ]


def test_a_seed_depends_on_suite_prompt_index_and_base_seed_and_on_nothing_else():
    prompts = SUITE.prompts("test")
    rows = planned("original", "original", SUITE, prompts, 2, 3)
    assert list(rows["seed"]) == [
        seed_of("jobs", "1", name, k, 3) for name in ("cook", "maid", "dj") for k in (0, 1)
    ]
    other = planned("nudge", "debiased", SUITE, prompts[::-1], 4, 3)
    both = rows.merge(other, on=["prompt_id", "image_index"])
    assert len(both) == len(rows) and (both["seed_x"] == both["seed_y"]).all()
    for suite, seed in (
        (SUITE, 4),
        (SUITE.model_copy(update={"version": "2"}), 3),
        (SUITE.model_copy(update={"name": "works"}), 3),
    ):
        assert not set(planned("original", "original", suite, prompts, 2, seed)["seed"]) & set(rows["seed"])


def test_the_classes_that_a_prompt_asks_for_stand_beside_it():
    female, old = NAMED.prompts("test")
    rows = planned("original", "original", NAMED, [female, old], 1, 0)
    assert rows[["prompt_id", "named/gender", "named/age"]].fillna("nobody").values.tolist() == [
        ["cook.0", "female", "nobody"], ["cook.1", "nobody", "old"],
    ]  # fmt: skip
    row = planned_image("original", "original", NAMED, old, 7, 0)
    assert (row["image"], row["seed"]) == (
        "images/original/cook.1/7.png",
        seed_of("named", "2", "cook.1", 7, 0),
    )
    assert of_suite(old, NAMED) == {
        "prompt_id": "cook.1", "prompt": "an old cook", "concept": "cook", "named/gender": None,
        "named/age": "old",
    }  # fmt: skip


def found(tmp_path):
    """Two images of two prompts, and a column that only they have."""
    for k, value in enumerate((0, 255)):
        Image.fromarray(np.full((2, 3, 3), value, np.uint8)).save(tmp_path / f"{k}.png")
    return pd.DataFrame(
        {
            "image": [str(tmp_path / f"{k}.png") for k in (0, 1)],
            "extra": [1, 2],
            "image_index": [5, 0],
            "concept": ["cook", "dj"],
            "prompt": ["a cook", "a dj"],
            "prompt_id": ["cook", "dj"],
        }
    )


def test_what_was_found_has_the_columns_of_what_is_planned_and_a_seed_only_in_a_suite(tmp_path):
    of_a_suite = as_planned(found(tmp_path), "original", SUITE, 3)
    assert list(of_a_suite) == [*planned("original", "", SUITE, SUITE.prompts("test"), 1, 0), "extra"]
    assert list(of_a_suite["seed"]) == [seed_of("jobs", "1", "cook", 5, 3), seed_of("jobs", "1", "dj", 0, 3)]
    alone = as_planned(found(tmp_path), "original", None, 3)
    assert alone["seed"].isna().all() and alone["seed"].dtype == of_a_suite["seed"].dtype == "Int64"


def test_images_are_known_by_their_content_and_order_and_hashed_once(tmp_path):
    rows = found(tmp_path)
    images = ImageSet((rows, rows[::-1]))
    each = [hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in rows["image"]]
    assert images.sha256 == hashlib.sha256("".join([*each, *each[::-1]]).encode()).hexdigest()
    assert images.prompts_sha256 == hashlib.sha256(b"cook\ta cook\ndj\ta dj").hexdigest()
    (tmp_path / "0.png").unlink()
    assert images.sha256  # of when it was asked first
    with pytest.raises(UserError, match="there is no such file"):
        ImageSet((rows,)).sha256  # noqa: B018


def test_rows_come_back_with_their_images_from_a_folder_or_from_where_they_are(tmp_path):
    rows = found(tmp_path)
    for directory, paths in ((tmp_path, ["0.png", "1.png"]), (Path("elsewhere"), list(rows["image"]))):
        back = [*read_back(rows.assign(image=paths), directory)]
        assert [name for part, _ in back for name in part["prompt_id"]] == ["cook", "dj"]
        assert [float(image.mean()) for _, images in back for image in images] == [0, 1]
