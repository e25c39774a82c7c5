"""The proof itself: its truths by brute force, its chances by setting, and what it would notice."""

import numpy as np
import pandas as pd
import pytest

from fairbench.metrics.bias import pairs
from fairbench.validity import simulation
from fairbench.validity.populations import POPULATIONS, Population, judge_rates
from fairbench.validity.simulation import Setting, estimates, rejections, settings, simulate

FAIR, LEAN, MIXED = POPULATIONS[0], POPULATIONS[2], POPULATIONS[4]


@pytest.mark.parametrize("classes", [2, 4, 8])
@pytest.mark.parametrize("population", POPULATIONS, ids=lambda population: population.name)
def test_the_true_gap(population: Population, classes: int) -> None:
    p = population.draw(np.random.default_rng(0), (50_000,), classes)
    np.testing.assert_allclose(p.sum(axis=1), 1)
    first, second = pairs(p)
    assert population.gap(classes) == pytest.approx(np.sqrt(((first - second) ** 2).mean()), abs=0.003)


def test_the_known_judge() -> None:
    assert judge_rates(2).tolist() == [[0.98, 0.02], [0.08, 0.92]]
    np.testing.assert_allclose(judge_rates(8).sum(axis=1), 1)
    np.testing.assert_allclose(np.diag(judge_rates(8)), [0.98, 0.92] * 4)


def test_a_setting_is_the_same_whichever_others_are_asked_for() -> None:
    alone = estimates(Setting(2, 9, LEAN), 20, 0)
    pd.testing.assert_frame_equal(alone, estimates(Setting(2, 9, LEAN), 20, 0))
    both = list(simulate([Setting(4, 9, FAIR), Setting(2, 9, LEAN)], 20, 0, jobs=1))
    pd.testing.assert_frame_equal(both[1][0], alone)
    assert not estimates(Setting(2, 9, LEAN), 20, 1).equals(alone)
    assert len(settings([2, 4], [9])) == 2 * len(POPULATIONS)


def within(share: float, expected: float, trials: int) -> bool:
    """Whether the binomial law allows it, to three and a half standard deviations."""
    return bool(abs(share - expected) < 3.5 * np.sqrt(expected * (1 - expected) / trials))


def check(setting: Setting, trials: int) -> None:
    found = estimates(setting, trials, 0).set_index("number")
    for name in ("mean bias, bootstrap", "mean bias, t", "gap", "gap corrected"):
        assert within(found.loc[name, "coverage"], 0.95, trials), (setting, name)
    rates = rejections(setting, trials, 0)
    nothing = rates[(rates["effect"] == 0) & rates["test"].isin(["changed", "not fair"])]
    for _, row in nothing.iterrows():
        assert within(row["rejected"], 0.05, trials), (setting, row["test"])


@pytest.mark.parametrize("population", [FAIR, LEAN], ids=lambda population: population.name)
def test_coverage_and_type_one_rate(population: Population) -> None:
    check(Setting(2, 60, population), 150)


@pytest.mark.slow
@pytest.mark.parametrize("classes", [2, 4, 8])
@pytest.mark.parametrize("population", [FAIR, LEAN, MIXED], ids=lambda population: population.name)
def test_coverage_and_type_one_rate_in_many_settings(population: Population, classes: int) -> None:
    check(Setting(classes, 60, population), 600)


def test_a_wrong_interval_and_an_ignored_judge_are_noticed(monkeypatch) -> None:
    """The sd of replicates over the root of their number has been published; it covers next to nothing."""
    monkeypatch.setattr(
        simulation, "t_interval", lambda values: (values.mean() - 0.002, values.mean() + 0.002)
    )
    found = estimates(Setting(2, 60, LEAN), 60, 0).set_index("number")
    assert found.loc["mean bias, t", "coverage"] < 0.5
    strong = estimates(Setting(2, 160, POPULATIONS[3]), 60, 0).set_index("number")
    assert strong.loc["gap read by a judge", "coverage"] < 0.2 < strong.loc["gap corrected", "coverage"]
    assert strong.loc["gap read by a judge", "error"] < -0.05
    assert abs(strong.loc["gap corrected, signed", "error"]) < 0.01


def test_power_where_there_is_something_to_find() -> None:
    rates = rejections(Setting(2, 60, POPULATIONS[3]), 60, 0).set_index(["test", "effect"])["rejected"]
    assert rates["changed"].max() > 0.9 and rates["unchanged, margin = 3 x change"].max() > 0.9
    assert rates["not fair"].max() == 1
