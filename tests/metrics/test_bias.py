"""Bias against the paper's formula as a double loop, and its bounds against every way to fill the gaps."""

from itertools import combinations, combinations_with_replacement

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairbench.attributes import AttributeSpace
from fairbench.metrics.bias import (
    bias,
    bias_bounds,
    class_counts,
    frequencies,
    intersection_labels,
    labels_of,
)

COUNTS = st.lists(st.integers(0, 20), min_size=2, max_size=6)


@given(COUNTS.filter(any))
def test_the_formula(counts: list[int]) -> None:
    frequency = np.array(counts) / sum(counts)
    gaps = [abs(frequency[i] - frequency[j]) for i, j in combinations(range(len(counts)), 2)]
    assert bias(frequency) == pytest.approx(sum(gaps) / len(gaps))
    assert 0 <= bias(frequency) <= 2 / len(counts) + 1e-12


@pytest.mark.parametrize(("classes", "largest"), [(2, 1), (4, 0.5), (8, 0.25)])
def test_the_largest_values_of_the_paper(classes: int, largest: float) -> None:
    assert bias(np.eye(classes)[0]) == pytest.approx(largest)
    assert bias(np.full(classes, 1 / classes)) == 0


def test_one_row_per_prompt() -> None:
    np.testing.assert_allclose(bias([[0.5, 0.5], [0.25, 0.75], [0.0, 1.0]]), [0, 0.5, 1])


def test_labels_frequencies_and_missing_faces() -> None:
    probabilities = [[0.9, 0.1], [0.2, 0.8], [np.nan, np.nan], [0.3, 0.7]]
    assert labels_of(probabilities).tolist() == [0, 1, -1, 1]
    np.testing.assert_allclose(frequencies(probabilities, 2), [1 / 3, 2 / 3])
    np.testing.assert_allclose(frequencies([0, 1, -1, 1], 2), [1 / 3, 2 / 3])
    assert class_counts([0, -1, 2], 4).tolist() == [1, 0, 1, 0]
    assert np.isnan(frequencies([-1, -1], 4)).all() and np.isnan(bias(frequencies([-1], 4)))


def test_intersections_follow_the_attribute_space() -> None:
    space = AttributeSpace(("gender", "race"))
    labels = intersection_labels([[0, 1, 1, -1, 0], [1, 0, 3, 2, -1]], [2, 4])
    assert [space.labels[label] for label in labels[:3]] == ["female Black", "male WMELH", "male Asian"]
    assert labels[3:].tolist() == [-1, -1]


WEIGHTS = st.lists(st.integers(0, 5), min_size=6, max_size=6).filter(lambda weights: weights[0] > 0)


@given(COUNTS.filter(any), WEIGHTS)
def test_the_formula_for_any_target(counts: list[int], weights: list[int]) -> None:
    f, t = np.array(counts) / sum(counts), np.array(weights[: len(counts)]) / sum(weights[: len(counts)])
    gaps = [abs((f[i] - t[i]) - (f[j] - t[j])) for i, j in combinations(range(len(counts)), 2)]
    assert bias(f, t) == pytest.approx(sum(gaps) / len(gaps))
    assert bias(t, t) == 0 and (bias(f, t) > 1e-12) == (np.abs(f - t).max() > 1e-12)
    assert bias(f, np.full(len(f), 1 / len(f))) == pytest.approx(bias(f))


@given(st.lists(st.integers(0, 5), min_size=2, max_size=4).filter(any), st.integers(0, 5), WEIGHTS)
def test_bounds_for_any_target(counts: list[int], missing: int, weights: list[int]) -> None:
    target = np.array(weights[: len(counts)]) / sum(weights[: len(counts)])
    fillings = combinations_with_replacement(range(len(counts)), missing)
    completions = [counts + class_counts(filling, len(counts)) for filling in fillings]
    values = [float(bias(completion / completion.sum(), target)) for completion in completions]
    assert bias_bounds(counts, missing, target) == pytest.approx((min(values), max(values)), abs=1e-12)


@given(st.lists(st.integers(0, 5), min_size=2, max_size=4).filter(any), st.integers(0, 5))
def test_bounds_are_the_extremes_over_every_completion(counts: list[int], missing: int) -> None:
    fillings = combinations_with_replacement(range(len(counts)), missing)
    completions = [counts + class_counts(filling, len(counts)) for filling in fillings]
    values = [float(bias(completion / completion.sum())) for completion in completions]
    assert bias_bounds(counts, missing) == pytest.approx((min(values), max(values)), abs=1e-12)
