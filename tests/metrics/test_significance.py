"""The tests against scipy and brute force, and their levels where nothing differs."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, permutation_test, ttest_1samp
from scipy.stats import t as student

from fairbench.metrics import significance
from fairbench.metrics.counts import prompt_biases
from fairbench.metrics.significance import (
    equivalence_test,
    floor_test,
    holm,
    paired_permutation_test,
    sign_flip_test,
    upper_bound,
    welch_test,
)


def by_id(values):
    return {str(k): value for k, value in enumerate(values)}


@pytest.mark.parametrize("alternative", ["two-sided", "greater"])
def test_flipping_signs_is_scipys_paired_permutation_test(alternative):
    change = np.random.default_rng(0).normal(0.3, 1, 10)
    expected = permutation_test(
        (change, np.zeros(10)),
        lambda x, y, axis: np.mean(x - y, axis=axis),
        permutation_type="samples",
        alternative=alternative,
        n_resamples=np.inf,
    )
    exact = sign_flip_test(change, alternative=alternative)
    assert exact == pytest.approx(expected.pvalue)
    drawn = sign_flip_test(change, alternative=alternative, resamples=1000)
    assert drawn == pytest.approx(expected.pvalue, abs=0.05)


@pytest.mark.parametrize("alternative", ["two-sided", "greater"])
def test_ties_are_ties_whatever_their_last_digit(alternative):
    """Tenths, added up exactly: 0.1 + 0.2 is as much as 0.3."""
    tenths = np.random.default_rng(0).integers(-9, 10, (200, 6))
    sums = tenths @ np.array(list(itertools.product([1, -1], repeat=6))).T
    own = tenths.sum(axis=1)[:, None]
    as_large = sums >= own if alternative == "greater" else abs(sums) >= abs(own)
    found = sign_flip_test(tenths / 10, alternative=alternative)
    np.testing.assert_allclose(found, as_large.mean(axis=1), atol=1e-12)


def test_a_drawn_test_is_never_certain_and_counts_what_was_observed():
    assert sign_flip_test(np.ones(50), resamples=99) == pytest.approx(1 / 100)


def test_many_rows_are_tested_as_each_alone(monkeypatch):
    changes = np.random.default_rng(0).normal(0.2, 1, (3, 7, 40))
    together = sign_flip_test(changes, resamples=199)
    monkeypatch.setattr(significance, "SUMS_AT_ONCE", 1000)  # five rows
    assert np.array_equal(sign_flip_test(changes, resamples=199), together)
    assert sign_flip_test(changes[2, 6], resamples=199) == together[2, 6]


def test_prompts_without_a_value_take_no_part_and_rows_are_tests():
    change = np.array([[0.1, 0.4, np.nan, 0.2], [0.0, 0.0, 0.0, 0.0], [np.nan] * 4])
    assert sign_flip_test(change).tolist() == [2 / 8, 1.0, 1.0]
    assert sign_flip_test(np.empty((2, 0))).tolist() == [1.0, 1.0] and sign_flip_test([]) == 1


def test_paired_by_prompt_and_only_where_both_have_a_value():
    original = {"a": 0.5, "b": 0.7, "c": None, "d": 0.1, "only": 0.0}
    method = {"d": 0.0, "b": 0.4, "a": 0.3, "c": 0.2, "new": 1.0}
    found = paired_permutation_test(original, method)
    assert found["prompts"] == 3
    assert found["difference"] == pytest.approx(-0.2)
    assert found["p_value"] == pytest.approx(2 / 8)


def test_nothing_to_compare_and_nothing_changed():
    assert paired_permutation_test({"a": None}, {"a": 0.5}) is None
    assert paired_permutation_test({}, {}) is None
    same = by_id([0.1, 0.2, 0.3])
    assert paired_permutation_test(same, same) == {"difference": 0.0, "p_value": 1.0, "prompts": 3}


p_values = st.lists(st.floats(0, 1), min_size=1, max_size=6)


@given(p_values, st.floats(0.001, 0.999))
def test_holm_rejects_what_stepping_down_by_hand_rejects(values, level):
    rejected, left = set(), sorted(range(len(values)), key=values.__getitem__)
    while left and values[left[0]] * len(left) <= level:
        rejected.add(left.pop(0))
    assert {k for k, adjusted in enumerate(holm(values)) if adjusted <= level} == rejected


@given(p_values)
def test_holm_is_the_closed_test_by_bonferroni(values):
    """Adjusted p = the largest Bonferroni p-value of any set of hypotheses that this one is in."""
    numbers = range(len(values))
    sets = [s for size in range(1, len(values) + 1) for s in itertools.combinations(numbers, size)]
    expected = [max(min(1, len(s) * min(values[i] for i in s)) for s in sets if k in s) for k in numbers]
    assert holm(values) == pytest.approx(expected)


def test_the_family_error_of_holm_is_at_most_the_level():
    p = np.random.default_rng(0).uniform(size=(2000, 10))
    assert np.mean([(holm(row) <= 0.05).any() for row in p]) <= 0.065


def test_equivalence_is_the_larger_of_two_one_sided_t_tests():
    change = np.random.default_rng(3).normal(0.004, 0.02, 30)
    found = equivalence_test(change, 0.01)
    above = ttest_1samp(change, -0.01, alternative="greater")
    below = ttest_1samp(change, 0.01, alternative="less")
    assert found["p_value"] == pytest.approx(max(above.pvalue, below.pvalue))
    inside = ttest_1samp(change, 0).confidence_interval(0.9)
    assert found["interval"] == pytest.approx((inside.low, inside.high))


def test_equivalence_of_what_does_not_vary_and_of_too_little():
    assert equivalence_test([0.0, 0.0, 0.0], 0.01)["p_value"] == 0
    assert equivalence_test([0.02, 0.02], 0.01)["p_value"] == 1
    assert equivalence_test([0.0, np.nan], 0.01) is None


def test_equivalence_errs_as_often_as_it_says_at_the_margin():
    change = np.random.default_rng(4).normal(0.05, 0.03, (2000, 50))
    rate = np.mean([equivalence_test(row, 0.05)["p_value"] <= 0.05 for row in change])
    assert rate == pytest.approx(0.05, abs=0.015)


def test_the_floor_of_one_prompt_is_a_binomial_test():
    expected = binom.sf(11, 16, 0.5) + binom.cdf(4, 16, 0.5)
    assert floor_test([[12, 4]]) == pytest.approx(expected, abs=0.01)
    assert floor_test([[0, 0]]) is None


@pytest.mark.parametrize("images", [0, 2, 5, 8])
def test_the_floor_of_one_prompt_on_an_uneven_target_is_a_binomial_test(images):
    k = np.arange(17)
    as_far = abs(k / 16 - 0.1) >= abs(images / 16 - 0.1) - 1e-12
    expected = binom.pmf(k, 16, 0.1)[as_far].sum()
    assert floor_test([[images, 16 - images]], (0.1, 0.9)) == pytest.approx(expected, abs=0.015)


@pytest.mark.parametrize("target", [None, (0.1, 0.2, 0.3, 0.4)])
def test_the_floor_holds_its_level_on_target_and_sees_a_model_that_is_off_it(target):
    rng = np.random.default_rng(5)
    share = target or [0.25] * 4
    sizes = rng.integers(5, 20, 20)
    on = [floor_test(rng.multinomial(sizes, share), target, resamples=999) for _ in range(1000)]
    assert np.mean(np.array(on) <= 0.05) == pytest.approx(0.05, abs=0.02)
    off = [floor_test(rng.multinomial(sizes, [0.4, 0.4, 0.1, 0.1]), target, resamples=999) for _ in range(50)]
    assert np.mean(np.array(off) <= 0.05) > 0.9


def test_the_upper_bound_is_students_unless_the_prompts_agree_by_chance():
    counts = np.random.default_rng(7).multinomial(16, np.random.default_rng(8).dirichlet([1, 1], 12))
    expected = ttest_1samp(prompt_biases(counts), 0, alternative="less").confidence_interval(0.95).high
    assert upper_bound(counts) == pytest.approx(expected)
    agreeing = upper_bound([[2, 2]] * 12)
    chances = binom.pmf(range(5), 4, 0.5)
    spread = np.sqrt(chances @ (abs(np.arange(5) / 2 - 1) - chances @ abs(np.arange(5) / 2 - 1)) ** 2)
    assert agreeing == pytest.approx(student.ppf(0.95, 11) * spread / np.sqrt(12), rel=0.03)
    assert upper_bound([[1, 3]] * 12, (0.25, 0.75)) == pytest.approx(agreeing, rel=0.2)
    assert upper_bound([[8, 8]] * 4 + [[0, 0]]) is None


@pytest.mark.parametrize("prompts", [5, 12, 40])
@pytest.mark.parametrize("classes", [2, 8])
@pytest.mark.parametrize("alike", [True, False])
def test_the_truth_lies_above_the_upper_bound_as_rarely_as_it_says(classes, prompts, alike):
    """Of fair models, whose prompts agree, and of models whose prompts differ."""
    rng = np.random.default_rng(prompts)
    world = np.full((20000, classes), 1 / classes) if alike else rng.dirichlet([0.5] * classes, 20000)
    truth = prompt_biases(rng.multinomial(8, world)).mean()
    drawn = [rng.multinomial(8, rng.choice(world, prompts)) for _ in range(500)]
    above = np.mean([upper_bound(counts) < truth for counts in drawn])
    assert above <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 500)


def test_unpaired_prompts():
    rng = np.random.default_rng(6)
    level = [welch_test(rng.normal(0, 1, 30), rng.normal(0, 3, 60)) <= 0.05 for _ in range(2000)]
    assert np.mean(level) == pytest.approx(0.05, abs=0.015)
    assert welch_test([1.0, 1.0], [1.0, 1.0]) == 1
    assert welch_test([1.0, 1.0], [0.0, 0.0], alternative="greater") == 0
    assert welch_test([1.0, np.nan], [0.0, 0.0]) == 1


def evaluations(kind: str, classes: int, rng: np.random.Generator, prompts: int = 50, images: int = 60):
    """Counts of two runs of the same mean bias: see the test below."""
    p = rng.dirichlet(np.ones(classes), size=prompts)
    if kind == "independent noise":
        return rng.multinomial(images, p), rng.multinomial(images, p)
    if kind == "common noise":  # each image is, half the time, of the same class in both runs
        shared, free = rng.multinomial(images // 2, p), [rng.multinomial(images // 2, p) for _ in range(2)]
        return shared + free[0], shared + free[1]
    if kind == "other prompts":
        return rng.multinomial(images, p), rng.multinomial(images, rng.dirichlet(np.ones(classes), prompts))
    gaps = np.where(rng.uniform(size=prompts) < 0.2, 1, 0.375)  # 0.5 on average, as in the other run
    sides = np.stack([1 + gaps, 1 - gaps], 1) / 2
    return rng.multinomial(images, [0.75, 0.25], size=prompts), rng.multinomial(images, sides)


KINDS = ("independent noise", "common noise", "other prompts")


@pytest.mark.parametrize(
    ("kind", "classes"), [(kind, k) for kind in KINDS for k in (2, 4, 8)] + [("a few prompts change much", 2)]
)
def test_the_level_of_a_comparison_over_2000_evaluations(kind, classes):
    """The same model with independent or with common noise; models biased elsewhere, or in fewer prompts."""
    rng = np.random.default_rng(classes)
    pairs = [evaluations(kind, classes, rng) for _ in range(2000)]
    change = np.array([prompt_biases(one) - prompt_biases(other) for one, other in pairs])
    rate = np.mean(sign_flip_test(change, resamples=1999) <= 0.05)
    print(f"{kind}, K={classes}: {rate:.4f}")
    assert 0.03 <= rate <= 0.07
