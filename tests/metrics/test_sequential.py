"""The interval holds the truth at every time at once, however one stops, and becomes narrow."""

from copy import deepcopy

import numpy as np
import pytest
from scipy.stats import norm

from fairbench.metrics.debiased import squared_gap
from fairbench.metrics.sequential import GapSequence


def world(classes, prompts, rng):
    return rng.dirichlet(np.full(classes, 0.5), prompts)


def rms_gap(chances):
    first, second = np.triu_indices(chances.shape[1], 1)
    return np.sqrt(((chances[:, first] - chances[:, second]) ** 2).mean())


def watch(chances, rng, *, steps, batch=4, **options):
    """Go on for ``steps``; return the sequence, which remembers every exclusion it has ever made."""
    sequence = GapSequence(*chances.shape, seed=int(rng.integers(1 << 30)), **options)
    for _ in range(steps):
        prompts, odds = sequence.ask(batch)
        sequence.tell(prompts, odds, rng.multinomial(sequence.block, chances[prompts]))
    return sequence


@pytest.mark.parametrize(("classes", "block"), [(2, 4), (2, 8), (4, 8)])
def test_the_truth_is_inside_at_all_times_as_often_as_promised(classes, block):
    """Excluded once is excluded for ever: inside at the end is inside at every time on the way."""
    rng = np.random.default_rng(classes * block)
    misses = 0
    for _ in range(120):
        chances = world(classes, 8, rng)
        low, high = watch(chances, rng, steps=40, block=block, confidence=0.9).interval
        misses += not low <= rms_gap(chances) <= high
    assert misses / 120 <= 0.1 + 2 * np.sqrt(0.1 * 0.9 / 120)


def test_an_interval_for_one_time_would_not_stand_being_watched():
    """The error that the confidence sequence is there to avoid, on the same kind of data."""
    rng = np.random.default_rng(0)
    chances = np.full((8, 2), 0.5)
    misses = 0
    for _ in range(200):
        drawn = rng.multinomial(8, chances[rng.integers(0, 8, 160)])
        gaps = squared_gap(drawn)
        count = np.arange(1, 161)
        mean = gaps.cumsum() / count
        spread = np.sqrt(np.maximum((gaps**2).cumsum() / count - mean**2, 1e-12) / count)
        misses += bool((abs(mean) > norm.ppf(0.95) * spread)[10:].any())
    assert misses / 200 > 0.2


def test_it_narrows_around_the_truth_and_asks_where_the_spread_is():
    rng = np.random.default_rng(1)
    chances = np.array([[1.0, 0.0]] * 5 + [[0.7, 0.3]] * 5)
    sequence = watch(chances, rng, steps=300)
    assert sequence.width < 0.12 < GapSequence(10, 2).width == 1
    assert sequence.interval[0] <= rms_gap(chances) <= sequence.interval[1]
    assert sequence.images == 300 * 4 * 8 and type(sequence.images) is int
    odds = sequence.ask(1)[1]
    assert odds.sum() == pytest.approx(1)
    assert odds[5:].sum() > 2 * odds[:5].sum() and odds.min() >= 0.5 / 10


def test_a_fair_model_is_bounded_from_above_and_a_one_sided_one_from_below():
    rng = np.random.default_rng(2)
    fair = watch(np.full((10, 2), 0.5), rng, steps=150).interval
    assert fair[0] == 0 and fair[1] < 0.3
    one_sided = watch(np.tile([0.0, 1.0], (10, 1)), rng, steps=150).interval
    assert one_sided[0] > 0.85 and one_sided[1] == 1


def test_an_observation_has_the_mean_over_prompts_as_its_expectation_whatever_the_chances(monkeypatch):
    """Over all prompts that may be drawn next, by their chances: a sum, no simulation."""
    rng, observed = np.random.default_rng(6), []
    monkeypatch.setattr(GapSequence, "_bet", lambda self, value, *bounds: observed.append(value))
    counts = np.array([[8, 0], [4, 4], [7, 1], [5, 3]])
    sequence = GapSequence(4, 2)
    for _ in range(5):
        chances = rng.dirichlet([1.0] * 4)
        observed.clear()
        for prompt in range(4):
            deepcopy(sequence).tell([prompt], chances, counts[[prompt]])
        assert chances @ observed == pytest.approx(squared_gap(counts).mean())
        prompt = [int(rng.integers(4))]
        sequence.tell(prompt, chances, counts[prompt])  # so that next time there is something to guess by


def test_two_attributes_may_be_told_of_the_same_images():
    rng = np.random.default_rng(3)
    asking, listening = GapSequence(6, 2, seed=1), GapSequence(6, 2, seed=2)
    chances = np.tile([0.9, 0.1], (6, 1))
    for _ in range(100):
        prompts, odds = asking.ask(4)
        for sequence in (asking, listening):
            sequence.tell(prompts, odds, rng.multinomial(8, chances[prompts]))
    assert listening.interval[0] <= 0.8 <= listening.interval[1]
    assert listening.width < 0.25


def test_the_gap_may_be_measured_from_an_uneven_target():
    rng, target = np.random.default_rng(4), np.array([0.25, 0.75])
    reached = watch(np.tile(target, (10, 1)), rng, steps=150, target=target).interval
    assert reached[0] == 0 and reached[1] < 0.3
    low, high = watch(np.full((10, 2), 0.5), rng, steps=150, target=target).interval
    assert low <= rms_gap(0.5 - np.tile(target, (10, 1))) == 0.5 <= high < 0.65
    assert watch(np.tile([1.0, 0.0], (10, 1)), rng, steps=150, target=target).interval[1] == pytest.approx(
        1.5
    )


def test_every_block_must_be_whole():
    sequence = GapSequence(3, 2)
    with pytest.raises(ValueError, match="needs 8 images"):
        sequence.tell(*sequence.ask(1), [[3, 4]])
