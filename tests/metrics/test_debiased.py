"""The debiased gap: its formula for two classes, and that it is unbiased, summed over all outcomes."""

from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import multinomial

from fairbench.metrics.debiased import debiased_gap, squared_gaps


@given(st.integers(2, 200), st.data())
def test_two_classes(n: int, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, n))
    d = 2 * first / n - 1
    assert squared_gaps([first, n - first])[0] == pytest.approx((n * d**2 - 1) / (n - 1))


@pytest.mark.parametrize(
    "p", [[0.5, 0.5], [0.9, 0.1], [0.2, 0.3, 0.5], [0.1, 0.2, 0.3, 0.4], [0.7, 0.3, 0, 0]]
)
@pytest.mark.parametrize("n", [2, 5])
def test_unbiased_for_every_pair(p: list[float], n: int) -> None:
    outcomes = np.array([counts for counts in product(range(n + 1), repeat=len(p)) if sum(counts) == n])
    expectation = multinomial.pmf(outcomes, n, p) @ squared_gaps(outcomes)
    np.testing.assert_allclose(expectation, [(a - b) ** 2 for a, b in combinations(p, 2)], atol=1e-12)


def test_a_fair_and_a_biased_model_at_few_images() -> None:
    rng = np.random.default_rng(0)
    fair, biased = rng.multinomial(16, [0.5, 0.5], 4000), rng.multinomial(16, [0.65, 0.35], 4000)
    assert debiased_gap(fair) == pytest.approx(0, abs=0.07)
    assert debiased_gap(biased) == pytest.approx(0.3, abs=0.01)
    assert debiased_gap(rng.multinomial(16, [1.0, 0.0], 20)) == 1


def test_prompts_without_an_estimate() -> None:
    assert debiased_gap([[10, 0], [1, 0], [0, 0]]) == 1
    assert debiased_gap([[1, 0], [0, 0]]) is None
    assert debiased_gap([[5, 5]]) == 0
