"""MMD by its double sums, the jackknife by leaving out, the weights by repeating rows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairbench.metrics.kernel import Features, kid_interval, matching_weights


def kernel(x, y):
    return (x @ y.T / x.shape[1] + 1) ** 3


def by_hand(a, b):
    within = [(kernel(s, s).sum() - np.trace(kernel(s, s))) / (len(s) * (len(s) - 1)) for s in (a, b)]
    return sum(within) - 2 * kernel(a, b).mean()


def sides(seed=0, prompts=5, each=6, shift=0.4, dim=4):
    rng = np.random.default_rng(seed)
    numbers = np.repeat(np.arange(prompts), each)
    centres = rng.normal(size=(prompts, dim))
    a, b = (centres[numbers] + rng.normal(size=(len(numbers), dim)) for _ in range(2))
    return a + shift, b, numbers


def test_the_value_and_the_interval_by_leaving_out_each_prompt():
    a, b, prompts = sides()
    value, (low, high) = kid_interval(Features.of(a, prompts), Features.of(b, prompts))
    assert value == pytest.approx(by_hand(a, b))
    left = np.array([by_hand(a[prompts != k], b[prompts != k]) for k in range(5)])
    error = np.sqrt(4 / 5 * ((left - left.mean()) ** 2).sum())
    assert (low, high) == pytest.approx((value - 2.7764 * error, value + 2.7764 * error), rel=1e-4)


def test_rows_in_chunks_and_prompts_under_any_numbers_change_nothing(monkeypatch):
    a, b, prompts = sides()
    expected = kid_interval(Features.of(a, prompts), Features.of(b, prompts))
    monkeypatch.setattr("fairbench.metrics.kernel.ROWS", 7)
    shuffled = np.array([40, 3, 7, 90, 11])[prompts]
    value, interval = kid_interval(Features.of(a, shuffled), Features.of(b, shuffled))
    assert value == pytest.approx(expected[0]) and interval == pytest.approx(expected[1])


def test_a_weight_of_two_between_sides_is_a_row_twice():
    a, b, prompts = sides()
    weights = np.where(prompts == 2, 2.0, 1.0)
    twice = np.concatenate([b, b[prompts == 2]])
    value, _ = kid_interval(Features.of(a, prompts), Features.of(b, prompts, weights))
    cross = kernel(a, twice).mean()
    pairs = weights[:, None] * weights
    np.fill_diagonal(pairs, 0)
    within = (pairs * kernel(b, b)).sum() / pairs.sum()
    own = (kernel(a, a).sum() - np.trace(kernel(a, a))) / (len(a) * (len(a) - 1))
    assert value == pytest.approx(own + within - 2 * cross)


def test_one_prompt_has_no_interval_and_one_row_no_value():
    a, b, _ = sides(prompts=1)
    zeros = np.zeros(len(a), dtype=int)
    assert kid_interval(Features.of(a, zeros), Features.of(b, zeros))[1] is None
    assert np.isnan(kid_interval(Features.of(a[:1], zeros[:1]), Features.of(b, zeros))[0])


def test_the_interval_holds_the_value_of_the_population_as_often_as_it_says():
    rng = np.random.default_rng(0)
    shift, dim, prompts = 1.0, 3, np.repeat(np.arange(20), 4)
    truth = _population(shift, dim)
    hits = 0
    for _ in range(120):
        a, b = rng.normal(size=(2, 80, dim))
        low, high = kid_interval(Features.of(a + shift, prompts), Features.of(b, prompts))[1]
        hits += low <= truth <= high
    assert 0.90 <= hits / 120 <= 0.99


def _population(shift, dim):
    """E(s + 1)^3 = E s^3 + 3 E s^2 + 3 E s + 1 for s = x.y / D of shifted normals, by large samples."""
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(2, 400_000, dim))
    means = [
        (((u * v).sum(1) / dim + 1) ** 3).mean() for u, v in ((x + shift, y + shift), (x, y), (x + shift, y))
    ]
    return means[0] + means[1] - 2 * means[2]


@given(
    st.lists(st.integers(-1, 4), min_size=1, max_size=40),
    st.lists(st.integers(-1, 4), min_size=1, max_size=40),
)
def test_matching_weights_give_the_reference_the_strata_of_the_generated(generated, reference):
    ours, theirs = np.array(generated), np.array(reference)
    compared, weights = matching_weights(ours, theirs)
    for stratum in range(5):
        both = (ours == stratum).any() and (theirs == stratum).any()
        assert weights[theirs == stratum].sum() == pytest.approx(compared[ours == stratum].sum())
        assert compared[ours == stratum].all() == both or not (ours == stratum).any()
    assert not compared[ours < 0].any() and not weights[theirs < 0].any()
