"""Comparisons of stored runs whose chances are known, by every rule that keeps unlike things apart."""

import numpy as np
import pytest

from fairbench.comparison.compare import _tests, compare
from fairbench.comparison.shared import Shared
from fairbench.errors import UserError
from fairbench.metrics.counts import count_table, prompt_biases
from fairbench.store.load import load_run
from tests.comparison.runs_by_name import row
from tests.runs.stored_runs import store_run


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


def test_runs_of_unlike_n_are_tested_at_the_same_n(stored):
    """The same model with fewer images looks more biased; that alone must not be significant."""
    many, few = stored("many", 0.5, images=60), stored("few", 0.5, images=8, noise=1)
    found = compare([many, few])
    label = {each["name"]: each["label"] for each in found["runs"]}
    assert row(found, label["few"])["bias_mean"] > row(found, label["many"])["bias_mean"] + 0.1
    test = next(t for t in found["tests"] if {t["first"], t["second"]} == {label["few"], label["many"]})
    assert not test["significant"] and abs(test["difference"]) < 0.1


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
