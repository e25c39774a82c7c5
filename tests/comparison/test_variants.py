"""Who takes part in a comparison: every method, and every original model once."""

import pandas as pd
import pytest

from fairbench.comparison.compare import compare
from fairbench.comparison.variants import Variant, variants_of
from fairbench.errors import UserError
from fairbench.store.provenance import Cost
from fairbench.store.results import Provenance
from tests.comparison.runs_by_hand import stored_run


def test_originals_of_one_name_are_one_only_if_all_else_is_the_same(stored):
    same = [stored("one", 0.5, model_sha256="a" * 64), stored("two", 0.5, model_sha256="a" * 64, noise=1)]
    found = compare(same)
    assert [each["name"] for each in found["runs"]] == ["original", "one", "two"]
    assert found["differences"] == []
    retrained = compare([same[0], stored("three", 0.5, model_sha256="b" * 64)])
    assert [each["name"] for each in retrained["runs"]] == ["original", "original", "one", "three"]
    assert any(
        line.startswith("models differ: world aaaaaaaa (A C), world bbbbbbbb (B D)")
        for line in retrained["differences"]
    )
    folders = [stored("original", images_sha256=letter * 64) for letter in "ab"]
    assert len(compare(folders)["runs"]) == 2
    suites = [stored("one", 0.5), stored("two", 0.5)]
    object.__setattr__(suites[1].provenance.sha256, "suite", "another")
    assert len(compare(suites, unpaired=True)["runs"]) == 4
    assert any(
        line.startswith("suites differ: jobs ") for line in compare(suites, unpaired=True)["differences"]
    )


def test_one_variant_alone_cannot_be_compared(stored):
    with pytest.raises(UserError, match="nothing to compare it with"):
        compare([stored("original")])


def images(*variants):
    """Two images of one prompt and one of another, in each of these variants."""
    return pd.DataFrame(
        [{"variant": name, "prompt_id": prompt} for name in variants for prompt in ("cook", "cook", "maid")]
    )


def test_an_original_and_its_method_are_told_apart_in_every_fact():
    provenance = Provenance(
        sha256={
            "judges": {"held-out": "h"},
            "training_judge": {"teacher": "t"},
            "suite": "s",
            "model": {"sd": None},
        },
        unet_rows={"per_image": {"original": 4, "prefix": 6}, "training": 100},
        seconds={"finetuning": 60.0},
    )
    run = stored_run(
        images("original", "prefix"), provenance, method="prefix[size=2]", draw_class="drawn", model="sd",
        evaluation_judges=["held-out", "unhashed"], training_judge="teacher",
        variants={"original": {"quality": {"kid": {"mean": 0.5}}}, "prefix": {}},
    )  # fmt: skip
    original, method = variants_of([run])
    assert [(each.label, each.name, each.draw_class) for each in (original, method)] == [
        ("A", "original", "emergent"), ("B", "prefix[size=2]", "drawn"),
    ]  # fmt: skip
    assert (original.trained_by, method.trained_by) == ({}, {"teacher": "t"})
    assert original.judges == method.judges == {"held-out": "h", "unhashed": ""}
    assert original.cost == Cost(4, None, None) and method.cost == Cost(6, 100, 60.0)
    assert (original.kid, method.kid) == (0.5, None)
    assert (method.suite, method.model) == (("jobs", "s"), ("sd", ""))
    assert [list(each.rows.index) for each in (original, method)] == [[0, 1, 2]] * 2
    assert method.images_per_prompt == "1 to 2"
    assert (method.known_by("teacher"), method.known_by("unhashed")) == ({"t"}, {"unhashed"})


def test_the_original_alone_keeps_the_draw_class_that_was_stated():
    folder = stored_run(images("original"), method="original", draw_class="unknown")
    assert Variant("A", folder, "original").draw_class == "unknown"


def test_originals_come_first_and_no_more_take_part_than_there_are_letters():
    runs = [stored_run(images("original", f"m{k}"), method=f"m{k}") for k in range(25)]
    found = variants_of(runs)
    assert [each.name for each in found] == ["original", *(f"m{k}" for k in range(25))]
    assert (found[0].label, found[-1].label) == ("A", "Z")
    other = stored_run(images("original", "last"), config={"seed": 1}, method="last")
    with pytest.raises(UserError, match="28 are too many to compare: at most 26"):
        variants_of([*runs, other])
    assert [each.label for each in variants_of([runs[0], other])] == ["A", "B", "C", "D"]
