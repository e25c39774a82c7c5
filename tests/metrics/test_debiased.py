"""The squared gap: its formula pair by pair, and that it is unbiased, summed over all outcomes."""

from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import multinomial

from fairbench.metrics.debiased import largest_gap, sampling_variance, squared_gap

COUNTS = st.lists(st.integers(0, 20), min_size=2, max_size=6).filter(lambda counts: sum(counts) > 1)
ERRORS = {2: [[0.98, 0.02], [0.08, 0.92]], 3: [[0.9, 0.05, 0.05], [0.1, 0.8, 0.1], [0, 0.2, 0.8]]}


def outcomes(classes: int, n: int) -> np.ndarray:
    return np.array([counts for counts in product(range(n + 1), repeat=classes) if sum(counts) == n])


@given(st.integers(2, 200), st.data())
def test_two_classes(n: int, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, n))
    d = 2 * first / n - 1
    assert squared_gap([first, n - first]) == pytest.approx((n * d**2 - 1) / (n - 1))


@given(COUNTS)
def test_the_mean_over_pairs(counts: list[int]) -> None:
    """By pair, E (f_i - f_j)^2 = (p_i - p_j)^2 + (p_i + p_j - (p_i - p_j)^2) / n, solved for it."""
    n = sum(counts)
    f = np.array(counts) / n
    by_pair = [(n * (a - b) ** 2 - (a + b)) / (n - 1) for a, b in combinations(f, 2)]
    assert squared_gap(counts) == pytest.approx(np.mean(by_pair), abs=1e-12)


@pytest.mark.parametrize("target", [None, [0.75, 0.25], [0.2, 0.3, 0.5]])
@pytest.mark.parametrize(
    "p", [[0.5, 0.5], [0.9, 0.1], [0.2, 0.3, 0.5], [0.1, 0.2, 0.3, 0.4], [0.7, 0.3, 0, 0]]
)
@pytest.mark.parametrize("n", [2, 5])
def test_unbiased(p: list[float], target: list[float] | None, n: int) -> None:
    if target is not None and len(target) != len(p):
        target = np.linspace(1, 2, len(p)) / np.linspace(1, 2, len(p)).sum()
    deviation = np.array(p) - (1 / len(p) if target is None else np.array(target))
    truth = np.mean([(a - b) ** 2 for a, b in combinations(deviation, 2)])
    counts = outcomes(len(p), n)
    assert multinomial.pmf(counts, n, p) @ squared_gap(counts, target) == pytest.approx(truth, abs=1e-12)


@pytest.mark.parametrize("p", [[0.5, 0.5], [0.9, 0.1], [0.2, 0.3, 0.5], [1, 0, 0]])
def test_unbiased_through_a_judge(p: list[float]) -> None:
    rates, n = np.array(ERRORS[len(p)]), 5
    counts = outcomes(len(p), n)
    expectation = multinomial.pmf(counts, n, p @ rates) @ squared_gap(counts, None, np.linalg.inv(rates.T))
    assert expectation == pytest.approx(np.mean([(a - b) ** 2 for a, b in combinations(p, 2)]), abs=1e-12)


@pytest.mark.parametrize("target", [[0.5, 0.5], [0.75, 0.25], [0.2, 0.3, 0.5], [0.25] * 4])
@pytest.mark.parametrize("judged", [False, True])
def test_variance_on_target_over_all_outcomes(target: list[float], judged: bool) -> None:
    rates = np.array(ERRORS[len(target)]) if judged and len(target) in ERRORS else np.eye(len(target))
    inverse, n = np.linalg.inv(rates.T), 6
    counts = outcomes(len(target), n)
    chances, squares = multinomial.pmf(counts, n, target @ rates), squared_gap(counts, target, inverse)
    variance = chances @ squares**2 - (chances @ squares) ** 2
    assert sampling_variance(n, target, inverse) == pytest.approx(variance, rel=1e-9)


def test_variance_beside_the_target() -> None:
    """Two classes: ``2 (1 - g^2)^2 / (n (n - 1)) + 4 g^2 (1 - g^2) / n``, of which this is the start."""
    n, g = 60, 0.1
    counts = outcomes(2, n)
    chances, squares = multinomial.pmf(counts, n, [0.55, 0.45]), squared_gap(counts)
    variance = chances @ squares**2 - (chances @ squares) ** 2
    assert sampling_variance(n, [0.5, 0.5], square=g**2) == pytest.approx(variance, rel=0.02)


@pytest.mark.parametrize(("target", "largest"), [([0.5] * 2, 1), ([0.25] * 4, 0.5**0.5), ([0.75, 0.25], 1.5)])
def test_the_largest_gap(target: list[float], largest: float) -> None:
    assert largest_gap(target) == pytest.approx(largest)
    corners = 100 * np.eye(len(target), dtype=int)
    assert np.sqrt(squared_gap(corners, target).max()) == pytest.approx(largest)


def test_too_few_images() -> None:
    assert np.isnan(squared_gap([[1, 0], [0, 0]])).all()
