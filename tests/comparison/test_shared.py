"""What runs have in common: prompts, judges and targets; and what they have not, each in one line."""

import json

import pytest

from fairbench.comparison.compare import compare
from fairbench.comparison.shared import find_shared, shared_targets, tables, target_of
from fairbench.comparison.variants import variants_of
from fairbench.errors import UserError
from fairbench.store.load import load_run
from tests.comparison.runs_by_hand import labelled, stored_run
from tests.comparison.runs_by_name import row
from tests.runs.stored_runs import JUDGES


def test_what_differs_is_said_and_what_does_not_is_not(stored):
    found = compare(
        [
            stored("model-decides", 0.5),
            stored("harness-decides", 0.5, draw_class="drawn", seed=1, images=24, guidance=5.0),
        ]
    )
    lines = {line.partition(" differ")[0]: line for line in found["differences"]}
    assert set(lines) == {"draw classes", "seeds", "images per prompt", "guidance"}
    assert "emergent (A B C), drawn (D)" in lines["draw classes"]
    assert "0 (A C), 1 (B D)" in lines["seeds"] and "by prompt only" in lines["seeds"]
    assert "16 (A C), 24 (B D)" in lines["images per prompt"]


def test_unlike_suites_are_refused_unless_unpaired_and_then_it_is_said(stored):
    jobs, hobbies = stored("a", 0.5), stored("b", 0.5, suite="hobbies")
    with pytest.raises(UserError, match=r"different suites.*--unpaired"):
        compare([jobs, hobbies])
    found = compare([jobs, hobbies], unpaired=True)
    assert not found["paired"] and found["prompts"] is None
    assert any(line.startswith("suites differ: jobs (A C), hobbies (B D)") for line in found["differences"])
    assert any(line.startswith("unpaired:") for line in found["differences"])
    assert row(found, "C")["beats"] == ["A", "B"]


def test_only_shared_prompts_are_compared(stored, tmp_path):
    one = stored("one", 0.5)
    two = stored("two", 0.5, noise=1)
    fewer = two.records[two.records["prompt_id"].isin([f"job-{k}" for k in range(12)])]
    fewer.to_parquet(two.path / "records.parquet")
    found = compare([one, load_run(two.path)])
    assert found["prompts"] == 12
    assert "only the 12 that all of them have" in " ".join(found["differences"])
    renamed = fewer.assign(prompt_id="other-" + fewer["prompt_id"])
    renamed.to_parquet(two.path / "records.parquet")
    with pytest.raises(UserError, match="no prompt in common"):
        compare([one, load_run(two.path)])


def test_a_judge_by_another_hash_is_another_judge(stored):
    found = compare([stored("a", 0.5), stored("b", 0.5, judges={name: "z" * 64 for name in JUDGES})])
    assert found["judge"] is None and found["panel"] == {}
    assert any(line.startswith("judges differ: judge-a aaaaaaaa") for line in found["differences"])


def test_the_judge_that_trained_one_run_may_not_judge_it_through_another(stored):
    taught = stored("taught", 0.5, judges={"judge-b": "b" * 64}, training={"judge-a": "a" * 64})
    free = stored("free", 0.5)
    found = compare([taught, free])
    assert found["judge"] == "judge-b"
    renamed = stored("renamed", 0.5, judges={"judge-b": "b" * 64}, training={"mine": "b" * 64})
    with pytest.raises(UserError, match=r"renamed \(B\) was trained by judge-b"):
        compare([renamed, stored("other", 0.5, judges={"judge-b": "b" * 64})])


def test_a_copy_of_the_judge_that_trained_a_run_is_known_by_its_weights(stored):
    run = stored("taught", 0.5, judges={"judge-b": "b" * 64}, training={"mine": "m" * 64})
    used = [
        {"name": name, "sha256": sha, "weights": ["w" * 64], "trained": name == "mine", "attributes": {}}
        for name, sha in {"judge-b": "b" * 64, "mine": "m" * 64}.items()
    ]
    keys = ("method", "draw_class", "model", "suite", "attributes", "target")
    measurement = {key: run.metrics[key] for key in keys} | {"judges": used}
    (run.path / "measurement.json").write_text(json.dumps(measurement))
    with pytest.raises(UserError, match=r"taught \(B\) was trained by judge-b"):
        compare([run])


def test_a_target_that_all_aim_at_is_what_bias_is_measured_from(stored):
    options = {"target": (0.25, 0.75)}
    found = compare([stored("there", 0.75, **options), stored("even", 0.5, noise=1, **options)])
    label = {each["name"]: each["label"] for each in found["runs"]}
    assert row(found, label["there"])["fair"] and not row(found, label["even"])["fair"]
    assert label["even"] in row(found, label["there"])["beats"]
    mixed = compare([stored("aimed", 0.75, **options), stored("unaimed", 0.5, noise=1)])
    assert any(line.startswith("targets differ: gender=0.25/0.75") for line in mixed["differences"])


def test_the_target_of_an_intersection_is_the_product_and_even_ones_are_none():
    targets = {"gender": (0.25, 0.75), "race": (0.25,) * 4}
    assert target_of(targets, "gender") == (0.25, 0.75)
    assert target_of(targets, "race") is target_of(targets, "age") is target_of({}, "gender x race") is None
    assert target_of(targets, "age x gender") == (0.125, 0.375, 0.125, 0.375)


def test_only_an_uneven_target_that_all_have_is_shared():
    uneven, even = {"gender": (0.25, 0.75), "race": (0.25,) * 4}, {"gender": (0.5, 0.5)}
    assert shared_targets([uneven]) == shared_targets([uneven, uneven]) == {"gender": (0.25, 0.75)}
    for others in ([even], [{}], [uneven, {"gender": (0.75, 0.25)}]):
        assert shared_targets([uneven, *others]) == {}
    assert shared_targets([even, uneven]) == {}


def test_prompts_and_classes_of_all_are_brought_into_the_order_of_the_first():
    one = {"cook": {"judge": ["female", "male", "male"]}, "maid": {"judge": ["female", None, None]}}
    other = {"maid": {"judge": ["male"] * 2}, "dj": {"judge": ["male"]}, "cook": {"judge": ["female"]}}
    runs = [
        stored_run(labelled(one, "one"), method="one", evaluation_judges=["judge"]),
        stored_run(
            labelled(other, "two", classes=("male", "female")), method="two", evaluation_judges=["judge"]
        ),
    ]
    shared = find_shared(variants_of(runs), unpaired=False)
    assert list(shared.prompts) == ["cook", "maid"] and shared.judges == ["judge", "judge"]
    first, second = tables(shared, "gender")
    assert (first.tolist(), second.tolist()) == ([[1, 2], [1, 0]], [[1, 0], [0, 2]])
    assert [note for note in shared.notes if "prompts differ" in note] == [
        "prompts differ: only the 2 that all of them have are compared"
    ]


def test_judges_that_know_other_classes_cannot_be_set_side_by_side():
    runs = [
        stored_run(
            labelled({"cook": {"judge": ["male"]}}, name, classes=classes),
            method=name, evaluation_judges=["judge"],
        )
        for name, classes in (("one", ("female", "male")), ("two", ("male", "other")))
    ]  # fmt: skip
    shared = find_shared(variants_of(runs), unpaired=False)
    with pytest.raises(UserError, match="the judges of A and B know other classes of gender"):
        tables(shared, "gender")


def test_a_prompt_of_another_text_is_another_prompt():
    records = labelled({"cook": {"judge": ["male"]}, "maid": {"judge": ["male"]}}, "one")
    other = records.assign(variant="two", prompt=records["prompt"].str.replace("face", "photo", n=1))
    other.loc[other["prompt_id"] == "maid", "prompt"] = "face of a maid"
    runs = [
        stored_run(rows, method=name, evaluation_judges=["judge"])
        for name, rows in (("one", records), ("two", other))
    ]
    assert list(find_shared(variants_of(runs), unpaired=False).prompts) == ["maid"]
