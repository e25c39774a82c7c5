"""The interval at a boundary against the published belt of Feldman and Cousins, and its coverage."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from fairbench.metrics.unified import unified_interval


def interval(x: float, confidence: float = 0.95) -> tuple[float, float]:
    """Of the mean (not its root) of a normal with variance 1, mean at least 0."""
    low, high = unified_interval(x, np.ones_like, largest=10.0, confidence=confidence)
    return low**2, high**2


@pytest.mark.parametrize("mean", [0, 0.1, 0.5, 1, 1.7, 2.5, 5])
def test_coverage_is_exact_everywhere(mean: float) -> None:
    """Integrated over the law of the estimate: no simulation."""
    x = np.linspace(mean - 5, mean + 5, 801)
    inside = [low - 1e-3 <= mean <= high + 1e-3 for low, high in map(interval, x)]
    covered = norm.pdf(x - mean)[inside].sum() * (x[1] - x[0])
    assert covered == pytest.approx(0.95, abs=0.006)


def test_against_the_likelihood_ratio_by_brute_force() -> None:
    """A mean belongs to the interval if not more than 5 % of all estimates have a smaller ratio."""
    x = np.linspace(-8, 12, 20_001)
    for seen in (-1.5, 0.3, 1.2, 2.4):
        low, high = interval(seen)
        for mean, held in ((low + 0.02, True), (high - 0.02, True), (high + 0.02, False)):
            ratio = norm.logpdf(x - mean) - norm.logpdf(x - np.maximum(x, 0))
            own = norm.logpdf(seen - mean) - norm.logpdf(seen - max(seen, 0))
            less = norm.pdf(x - mean)[ratio < own].sum() * (x[1] - x[0])
            assert (less >= 0.05) == held, (seen, mean)


@given(st.floats(-4, 8))
def test_two_sided_far_from_zero_and_one_sided_at_it(x: float) -> None:
    low, high = interval(x)
    assert 0 <= low <= max(x, 0) <= high
    assert (low == 0) == (x <= norm.ppf(0.95) + 1e-6)
    if x > 4:
        assert (low, high) == pytest.approx((x - 1.96, x + 1.96), abs=0.02)
    if x >= 0:
        assert high == pytest.approx(x + 1.96, abs=0.02)


def test_wider_with_more_confidence_and_however_narrow() -> None:
    assert interval(3, 0.99)[0] < interval(3, 0.9)[0] and interval(3, 0.99)[1] > interval(3, 0.9)[1]
    low, high = unified_interval(0.01, lambda gaps: np.full_like(gaps, 1e-14))
    assert low <= 0.1 <= high and high - low < 1e-5
    assert unified_interval(1.2, lambda gaps: np.full_like(gaps, 1e-6)) == (1, 1)
