from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairbench.diagnostics.shapley import resampled, shapley, subsets

PARTS = ["text_encoder", "unet", "prefix"]


def by_permutations(parts, values):
    """Mean over all orders of arrival of what a part adds when it comes."""
    orders = list(permutations(parts))
    found = dict.fromkeys(parts, 0.0)
    for order in orders:
        for place, part in enumerate(order):
            before = frozenset(order[:place])
            found[part] = found[part] + (values[before | {part}] - values[before]) / len(orders)
    return found


@st.composite
def games(draw):
    parts = PARTS[: draw(st.integers(1, 3))]
    numbers = st.floats(-5, 5, allow_nan=False)
    return parts, {some: np.array([draw(numbers), draw(numbers)]) for some in subsets(parts)}


@given(games())
def test_it_is_the_mean_over_all_orders(game):
    parts, values = game
    found, expected = shapley(parts, values), by_permutations(parts, values)
    for part in parts:
        np.testing.assert_allclose(found[part], expected[part], atol=1e-9)


@given(games())
def test_the_shares_add_up_to_the_whole_change(game):
    parts, values = game
    total = sum(shapley(parts, values).values())
    np.testing.assert_allclose(total, values[frozenset(parts)] - values[frozenset()], atol=1e-9)


def test_a_part_that_does_nothing_has_nothing_and_two_alike_have_the_same():
    values = {some: np.array(float(len(some - {"prefix"}) > 0)) for some in subsets(PARTS)}
    found = shapley(PARTS, values)
    assert (found["prefix"], found["unet"], found["text_encoder"]) == (0, 0.5, 0.5)


def test_all_subsets_are_there_once():
    found = subsets(PARTS)
    assert len(set(found)) == len(found) == 8
    assert (found[0], found[-1]) == (frozenset(), frozenset(PARTS))


def test_the_interval_is_that_of_scipy_and_holds_the_ratio():
    from scipy.stats import bootstrap

    rng = np.random.default_rng(1)
    whole = rng.normal(2, 0.5, 40)
    part = 0.6 * whole + rng.normal(0, 0.2, 40)
    ratio = lambda columns: columns[0].mean() / columns[1].mean()  # noqa: E731
    low, high = resampled([part, whole], ratio)
    expected = bootstrap(
        (part, whole),
        lambda a, b, axis: a.mean(axis) / b.mean(axis),
        paired=True,
        method="percentile",
        rng=np.random.default_rng(2),
    ).confidence_interval
    assert low == pytest.approx(expected.low, abs=0.005)
    assert high == pytest.approx(expected.high, abs=0.005)
    assert low < part.mean() / whole.mean() < high


def test_a_statistic_without_a_value_has_no_interval():
    assert resampled([np.zeros(5)], lambda columns: float("nan")) is None
