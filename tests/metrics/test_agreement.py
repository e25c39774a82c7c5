"""Alpha against its author's published examples and a loop over pairs; the gaming gap against known runs."""

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairbench.metrics.agreement import agreement, alpha, coincidences, gaming_gap

# Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011), examples A to C; a dot is no value.
PUBLISHED = {
    0.095: ("0100000010", "1110010000"),
    0.692: ("aabbdcccedda", "babbbccceddd"),
    0.743: ("123321412...", "1233224125.3", ".3332342251.", "12332441251."),
}


@pytest.mark.parametrize(("expected", "observers"), PUBLISHED.items())
def test_published_examples(expected, observers):
    values = sorted(set("".join(observers)) - {"."})
    labels = [[values.index(value) if value != "." else -1 for value in row] for row in observers]
    found = alpha(coincidences(labels, len(values)).sum(axis=0))
    assert found == pytest.approx(expected, abs=5e-4)


def by_pairs(labels):
    """1 - observed / expected disagreement, counted pair by pair."""
    units = [[v for v in unit if v >= 0] for unit in zip(*labels, strict=True)]
    units = [unit for unit in units if len(unit) > 1]
    everything = [v for unit in units for v in unit]
    n = len(everything)
    observed = sum(
        sum(a != b for a, b in itertools.permutations(unit, 2)) / (len(unit) - 1) for unit in units
    )
    expected = sum(a != b for a, b in itertools.permutations(everything, 2))
    return 1 - (n - 1) * observed / expected if expected else np.nan


tables = st.integers(2, 4).flatmap(
    lambda judges: st.lists(
        st.lists(st.integers(-1, 2), min_size=judges, max_size=judges), min_size=1, max_size=8
    )
)


@given(tables)
def test_any_table_against_a_loop_over_pairs(units):
    labels = np.array(units).T
    assert alpha(coincidences(labels, 3).sum(axis=0)) == pytest.approx(by_pairs(labels), nan_ok=True)


def records(prompts=20, images=10, flip=0.3, seed=0):
    """Three judges of gender: `a` tells the truth, `b` errs with `flip`, `t` says that all is even."""
    rng = np.random.default_rng(seed)
    male = rng.uniform(size=(prompts, images)) < rng.uniform(size=(prompts, 1))
    truth = male.ravel().astype(float)
    b = np.where(rng.uniform(size=truth.size) < flip, 1 - truth, truth)
    even = np.tile(np.arange(images) % 2, prompts).astype(float)
    table = pd.DataFrame({"prompt_id": np.repeat(np.arange(prompts).astype(str), images)})
    for name, seen in (("a", truth), ("b", b), ("t", even)):
        table[f"{name}/face"] = 1.0
        table[f"{name}/gender/female"], table[f"{name}/gender/male"] = 1 - seen, seen
    return table


def test_judges_that_agree_and_judges_that_guess():
    assert agreement(records(flip=0), ["a", "b"], "gender") == {"value": 1.0, "interval": [1.0, 1.0]}
    guessing = agreement(records(prompts=50, flip=0.5), ["a", "b"], "gender")
    assert guessing["interval"][0] < 0 < guessing["interval"][1]
    some = agreement(records(prompts=50, flip=0.1), ["a", "b"], "gender")
    assert guessing["interval"][1] < some["value"] < 1
    rows = records()
    rows["a/gender/male"] = rows["b/gender/male"] = 2.0
    assert agreement(rows, ["a", "b"], "gender") == {"value": None, "interval": None}


def test_images_of_one_prompt_do_not_stand_in_for_more_prompts():
    """Every image ten times over: nothing new is known of other prompts."""
    once = records(prompts=25, images=4)
    often = once.loc[once.index.repeat(10)]
    (low, high), (least, most) = (agreement(rows, ["a", "b"], "gender")["interval"] for rows in (once, often))
    assert most - least == pytest.approx(high - low, rel=0.1)


def test_a_method_that_pleases_the_judge_it_learnt_from_has_a_gap_below_zero():
    rows = records(prompts=30)
    found = gaming_gap(rows, "t", ["a", "b"], "gender")
    seen = rows.groupby("prompt_id")[["a/gender/male", "b/gender/male"]].mean()
    assert found["value"] == pytest.approx(-(abs(2 * seen - 1)).to_numpy().mean())
    assert found["interval"][0] < found["value"] < found["interval"][1] < 0
    assert gaming_gap(rows, "a", ["a"], "gender") == {"value": 0.0, "interval": [0.0, 0.0]}
    assert gaming_gap(rows, "a", ["a", "b"], "gender")["value"] > 0  # b errs, and so sees less bias


def test_the_gaming_gap_may_be_measured_from_an_uneven_target():
    rows, target = records(prompts=30), np.array([0.25, 0.75])

    def bias(judge):
        male = (rows[f"{judge}/gender/male"] > 0.5).groupby(rows["prompt_id"]).mean()
        return (abs((1 - male - 0.25) - (male - 0.75))).mean()

    found = gaming_gap(rows, "t", ["a"], "gender", tuple(target))
    assert found["value"] == pytest.approx(bias("t") - bias("a"))
    assert found["value"] != pytest.approx(gaming_gap(rows, "t", ["a"], "gender")["value"])


def test_no_face_no_value():
    rows = records(prompts=3)
    rows["t/face"] = 0.0
    assert gaming_gap(rows, "t", ["a"], "gender") == {"value": None, "interval": None}
