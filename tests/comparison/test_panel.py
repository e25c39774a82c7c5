"""Several judges in one comparison: whether they agree, who is best without one, what one alone is shown."""

import pytest

from fairbench.comparison.compare import compare
from fairbench.comparison.panel import gaming, judge_panel
from fairbench.comparison.shared import Shared
from fairbench.comparison.variants import Variant
from tests.comparison.runs_by_hand import labelled, stored_run
from tests.comparison.runs_by_name import row
from tests.runs.stored_runs import JUDGES, TRAINING


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


F, M = "female", "male"


def shared(*runs, judges=("a", "b"), targets=None):
    variants = [Variant("ABC"[number], run, "method") for number, run in enumerate(runs)]
    return Shared(variants, judges, [judges[0]] * len(runs), None, targets or {}, [])


def two_prompts(a, b, c=(None, None)):
    """One run of two prompts with two images each, which three judges see alike in both."""
    seen = {"a": a, "b": b, "c": c}
    return stored_run(labelled({"cook": seen, "maid": seen}, "method"), training_judge="c")


def test_the_panel_by_hand():
    """Judge a sees an even A and a one-sided B, b the other way round; nobody sees a face in C."""
    even, one_sided, nobody = (F, M), (M, M), (None, None)
    runs = [two_prompts(even, one_sided), two_prompts(one_sided, even), two_prompts(nobody, nobody)]
    found = judge_panel(shared(*runs), ["gender"])["gender"]
    assert found["bias_mean"] == {"a": [0, 1, None], "b": [1, 0, None]}
    assert found["order"] == ["A", "B", "C"]  # as biased by both together: as they come; no value is last
    assert found["without"] == {"a": ["B", "A", "C"], "b": ["A", "B", "C"]}
    # four images are F and M to the two, four are M and M: 8 of n = 16 pairs differ, n_F = 4, n_M = 12
    assert found["agreement"]["value"] == pytest.approx(1 - (16 - 1) * 8 / (16**2 - 4**2 - 12**2))


def test_one_judge_is_no_panel():
    run = two_prompts((F, M), (M, M))
    assert judge_panel(shared(run, run, judges=("a",)), ["gender"]) == {}


def test_the_gaming_gap_by_hand():
    """The teacher c sees men alone, a women alone, b both: from even shares 1 - (1 + 0) / 2."""
    variant = Variant("A", two_prompts((F, F), (F, M), (M, M)), "method")
    assert gaming(shared(variant.run), variant, "gender")["value"] == pytest.approx(0.5)
    # from 1/4 women: |-1/4 - 1/4| - (|3/4 + 3/4| + |1/4 + 1/4|) / 2
    target = shared(variant.run, targets={"gender": (0.25, 0.75)})
    assert gaming(target, variant, "gender")["value"] == pytest.approx(-0.5)
    assert gaming(shared(variant.run), variant, "gender x race") is None
    untaught = Variant("A", stored_run(variant.run.records), "method")
    assert gaming(shared(untaught.run), untaught, "gender") is None
