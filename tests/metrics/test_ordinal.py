"""Transport along ordered classes, against the distance between distribution functions and against scipy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import wasserstein_distance

from fairbench.metrics.ordinal import transport_to_target

WEIGHTS = st.lists(st.integers(0, 9), min_size=5, max_size=5).filter(any)


@given(WEIGHTS, WEIGHTS)
def test_the_area_between_distribution_functions(counts: list[int], weights: list[int]) -> None:
    f, t = np.array(counts) / sum(counts), np.array(weights) / sum(weights)
    found = transport_to_target([f], t)[0]
    assert found == pytest.approx(np.abs(np.cumsum(f - t)).sum(), abs=1e-9)
    assert found == pytest.approx(wasserstein_distance(range(5), range(5), f, t), abs=1e-9)


def test_one_row_per_prompt_and_places_of_the_classes() -> None:
    rows = [[1, 0, 0], [0, 0, 1], [1 / 3] * 3, [np.nan] * 3]
    np.testing.assert_allclose(transport_to_target(rows), [1, 1, 0, np.nan], atol=1e-12)
    assert transport_to_target([[1, 0, 0]], [0, 0, 1], [10, 40, 70])[0] == pytest.approx(60)
    assert transport_to_target([[0.2, 0.8]], [0.75, 0.25])[0] == pytest.approx(0.55)


def test_it_knows_what_a_gap_does_not() -> None:
    """From young to middle-aged is nearer than from young to old, with the same class frequencies moved."""
    near, far = transport_to_target([[0.5, 0.5, 0], [0.5, 0, 0.5]], [1, 0, 0])
    assert far == pytest.approx(2 * near)
