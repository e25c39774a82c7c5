"""Comparisons of stored runs whose chances are known, by every rule that keeps unlike things apart."""

import json

import numpy as np
import pytest

from fairbench.comparison.compare import _tests, compare
from fairbench.comparison.shared import Shared, target_of
from fairbench.errors import UserError
from fairbench.metrics.counts import count_table, prompt_biases
from fairbench.store.load import load_run
from tests.runs.stored_runs import JUDGES, TRAINING, men, store_run

SKEWED = np.linspace(0.02, 0.98, 30)


@pytest.fixture
def stored(tmp_path):
    def make(name, share=SKEWED, **options):
        variants = {"original": men(SKEWED)} | ({name: men(share)} if name != "original" else {})
        return load_run(store_run(tmp_path / f"{name}-{len(list(tmp_path.iterdir()))}", variants, **options))

    return make


def row(found, label, attribute="gender"):
    return next(row for row in found["attributes"][attribute] if row["label"] == label)


def test_a_fair_method_beats_the_original_and_is_marked_fair(stored):
    run = stored("fair", 0.5)
    found = compare([run])
    assert [(each["label"], each["name"]) for each in found["runs"]] == [("A", "original"), ("B", "fair")]
    original, fair = row(found, "A"), row(found, "B")
    assert (original["fair"], fair["fair"]) == (False, True)
    assert (original["beats"], fair["beats"]) == ([], ["A"])
    assert (original["rank"], fair["rank"]) == (2, 1)
    assert found["differences"] == [] and found["prompts"] == 30
    debiased = run.records[run.records["variant"] == "fair"]
    expected = prompt_biases(count_table(debiased, "judge-a", "gender")).mean()
    assert fair["bias_mean"] == pytest.approx(expected)
    assert fair["interval"][0] <= expected <= fair["interval"][1]
    assert fair["floor"] == pytest.approx(0.196, abs=0.001)  # E|2 B(16, 1/2) - 16| / 16


def test_the_original_of_several_runs_enters_once_and_all_pairs_are_one_family(stored):
    found = compare([stored("one", 0.5, noise=1), stored("two", 0.4, noise=2), stored("three", noise=3)])
    assert [each["name"] for each in found["runs"]] == ["original", "one", "two", "three"]
    assert len(found["tests"]) == 6
    worst = min(found["tests"], key=lambda test: test["p_value"])
    assert worst["p_holm"] == pytest.approx(6 * worst["p_value"])
    assert row(found, "B")["beats"] == row(found, "C")["beats"] == ["A", "D"]


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
    suites[1].provenance["sha256"]["suite"] = "another"
    assert len(compare(suites, unpaired=True)["runs"]) == 4
    assert any(
        line.startswith("suites differ: jobs ") for line in compare(suites, unpaired=True)["differences"]
    )


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


def test_runs_of_unlike_n_are_tested_at_the_same_n(stored):
    """The same model with fewer images looks more biased; that alone must not be significant."""
    many, few = stored("many", 0.5, images=60), stored("few", 0.5, images=8, noise=1)
    found = compare([many, few])
    label = {each["name"]: each["label"] for each in found["runs"]}
    assert row(found, label["few"])["bias_mean"] > row(found, label["many"])["bias_mean"] + 0.1
    test = next(t for t in found["tests"] if {t["first"], t["second"]} == {label["few"], label["many"]})
    assert not test["significant"] and abs(test["difference"]) < 0.1


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


def test_coupled_images_have_no_floor(stored):
    found = compare([stored("balanced", 0.5, draw_class="coupled")])
    assert row(found, "B")["fair"] is None and row(found, "B")["floor_p"] is None
    quota = compare([stored("quota", 0.5, draw_class="drawn", draw="quota")])
    assert row(quota, "B")["fair"] is None


def test_images_of_which_nobody_says_who_chose_are_not_called_fair(stored):
    folder = stored("original", 0.5, draw_class="unknown", noise=2)
    found = compare([folder, stored("fair", 0.5, noise=1)])
    assert [run["draw_class"] for run in found["runs"]] == ["unknown", "emergent", "emergent"]
    assert row(found, "A")["fair"] is None and row(found, "C")["fair"]
    assert any("unknown (A)" in line for line in found["differences"])


def test_unchanged_quality_is_shown_not_assumed(stored):
    same, worse = stored("same", 0.5), stored("worse", 0.5, recognised=0.6, noise=1)
    found = compare([same, worse], margins={"recognised": 0.1})
    change = {each["label"]: each["change"] for each in found["quality"]["recognised"]}
    assert change["A"] is None
    assert change["B"]["unchanged"] and change["B"]["margin"] == 0.1
    assert not change["C"]["unchanged"] and change["C"]["difference"] < -0.2
    strict = compare([same], margins={"recognised": 0.001})
    assert not strict["quality"]["recognised"][1]["change"]["unchanged"]
    with pytest.raises(UserError, match="unknown measure 'clip'"):
        compare([same], margins={"clip": 0.1})


def test_the_panel_says_when_one_judge_decides_who_is_best(stored):
    """Judge c sees nothing in one run, which makes its method look fairer than the other."""
    a = stored("a", 0.85, images=60)
    b = stored("b", 0.9, images=60, errors={"judge-c": 1.0}, noise=1)
    panel = compare([a, b])["panel"]["gender"]
    assert panel["order"].index("C") < panel["order"].index("B")
    assert set(panel["without"]) == set(JUDGES)
    assert panel["without"]["judge-c"].index("B") < panel["without"]["judge-c"].index("C")
    assert panel["agreement"]["value"] < 0.9
    assert panel["bias_mean"]["judge-c"][2] < panel["bias_mean"]["judge-a"][2]


def test_the_gaming_gap_is_there_for_what_was_trained_against_a_judge(stored):
    found = compare([stored("gamed", 0.9, training=TRAINING, errors={"judge-train": 0.8})])
    assert row(found, "A")["gaming_gap"] is None
    gap = row(found, "B")["gaming_gap"]
    assert gap["interval"][0] < gap["value"] < gap["interval"][1] < 0


def test_intersections_and_what_no_judge_reads(stored, tmp_path):
    run = stored("a", 0.5)
    with pytest.raises(UserError, match="has not judged race"):
        compare([run], attributes="gender x race")
    with pytest.raises(UserError, match="unknown attribute 'sex'"):
        compare([run], attributes="sex")
    chances = {"original": np.full((5, 4), 0.25), "b": np.full((5, 4), 0.25)}
    other = load_run(store_run(tmp_path / "race", chances, attribute="race"))
    with pytest.raises(UserError, match="different attributes"):
        compare([run, other])


def test_one_variant_alone_cannot_be_compared(stored):
    with pytest.raises(UserError, match="nothing to compare it with"):
        compare([stored("original")])


def test_a_prompt_without_a_face_has_no_say(stored):
    found = compare([stored("blind", 0.5, faces=0.1, images=4)])
    assert found["attributes"]["gender"][0]["prompts"] < 30
    blind = compare([stored("none", 0.5, faces=0.0)])
    assert row(blind, "B")["bias_mean"] is None and row(blind, "B")["fair"] is None
    assert row(blind, "B")["beats"] == []


def table_setting(labels):
    """Return what `_tests` needs to know of runs of 50 prompts that differ in nothing else."""
    labelled = [type("Labelled", (), {"label": label})() for label in labels]
    return Shared(labelled, [], [], prompts=range(50), targets={}, notes=[])


def test_what_cannot_be_chance_is_significant_among_however_many_runs():
    """40 runs on 3 attributes are 2,340 tests, whose p-values Holm multiplies by as many."""
    counts = [np.tile([2, 14], (50, 1)) for _ in range(39)] + [np.tile([8, 8], (50, 1))]
    tests = _tests(table_setting(range(40)), dict.fromkeys(("gender", "race", "age"), counts))
    assert len(tests) == 2340
    for test in tests:
        assert test["significant"] == (test["second"] == 39)
        assert test["p_holm"] <= 0.0101 or test["p_holm"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("classes", [2, 4, 8])
def test_a_comparison_errs_as_often_as_it_says(classes):
    """Two runs of one model, by the code that tests every pair, 2,000 times."""
    rng = np.random.default_rng(classes)
    errors = 0
    for _ in range(2000):
        chances = rng.dirichlet(np.ones(classes), 50)
        counts = [rng.multinomial(60, chances) for _ in range(2)]
        [test] = _tests(table_setting("AB"), {"gender": counts})
        errors += test["significant"]
    print(f"K={classes}: {errors / 2000:.4f}")
    assert 0.03 <= errors / 2000 <= 0.07


def test_what_the_runner_writes_can_be_compared_checked_and_gated(small, tmp_path):
    from fairbench.comparison.check import check
    from fairbench.comparison.reference import reference_of
    from fairbench.pytest_plugin import assert_bias_at_most
    from fairbench.runs.run import run

    metrics = run(small.config(), tmp_path / "run")
    stored = load_run(tmp_path / "run")
    found = compare([stored])
    assert row(found, "B")["bias_mean"] == pytest.approx(
        metrics["variants"]["nudge"]["bias"]["gender"]["bias_mean"]
    )
    assert row(found, "B")["gaming_gap"] == metrics["gaming_gap"]["gender"]
    assert set(found["panel"]["gender"]["without"]) == {"judge-a", "judge-b"}
    reference = reference_of(stored)
    assert set(reference.classes) == {"gender", "race"} and "clip_i" in reference.prompts["cook"].quality
    assert not any(metric.worse for metric in check(reference, reference)[0])
    with pytest.raises(AssertionError, match="2 prompts with a usable image are too few"):
        assert_bias_at_most(stored, "gender", 1.0)
