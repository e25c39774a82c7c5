"""Ranks against sorting by hand, and against runs that are clearly apart or the same."""

import numpy as np
import pytest

from fairbench.metrics.ranks import rank_intervals


@pytest.mark.parametrize("paired", [True, False])
def test_runs_that_are_far_apart_have_a_place_of_their_own(paired):
    rng = np.random.default_rng(0)
    values = rng.normal([[0.8], [0.2], [0.5]], 0.05, (3, 30))
    found = rank_intervals(values, paired=paired)
    assert [place["rank"] for place in found] == [3, 1, 2]
    assert [place["interval"] for place in found] == [(3, 3), (1, 1), (2, 2)]


def test_a_bootstrap_by_hand_gives_the_same_ranks():
    rng = np.random.default_rng(1)
    values = rng.uniform(size=(4, 12))
    drawn = [np.argsort(np.argsort(values[:, rng.integers(0, 12, 12)].mean(axis=1))) + 1 for _ in range(4000)]
    expected = np.quantile(drawn, [0.025, 0.975], axis=0)
    found = np.array([place["interval"] for place in rank_intervals(values)]).T
    assert abs(found - expected).max() <= 1


def test_twins_share_their_places_when_their_prompts_are_the_same():
    values = np.random.default_rng(2).uniform(size=(1, 20)).repeat(2, axis=0)
    assert rank_intervals(values) == [{"rank": 1.5, "interval": (1.5, 1.5)}] * 2
    loose = rank_intervals(values, paired=False)
    assert all(place["interval"] == (1, 2) for place in loose)


def test_prompts_without_a_value_are_left_out_of_that_run():
    values = np.array([[0.1, np.nan, 0.3], [0.9, 0.8, 0.7]])
    assert [place["rank"] for place in rank_intervals(values)] == [1, 2]
