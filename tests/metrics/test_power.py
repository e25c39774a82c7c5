"""Planned power against the test run on simulated evaluations, and against the textbook formula."""

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from fairbench.errors import UserError
from fairbench.metrics.counts import prompt_biases
from fairbench.metrics.power import Design, imagined_prompts, plan, simulated_power


@pytest.mark.parametrize(("classes", "detect", "power"), [(2, 0.1, 0.8), (4, 0.05, 0.9)])
def test_a_design_has_the_power_it_was_planned_for(classes, detect, power):
    world = imagined_prompts(classes)
    designs = plan(world, detect, power, (20, 50, 150))
    for design in designs:
        assert simulated_power(world, detect, design) == pytest.approx(power, abs=0.08)


def test_the_power_is_that_of_evaluations_simulated_apart_from_it():
    rng = np.random.default_rng(0)
    world = imagined_prompts(2)
    [design] = plan(world, 0.1, 0.8, [50])
    found = []
    for _ in range(400):
        gap = rng.uniform(0, 1, 50)  # two classes, anything equally likely
        sides = [(1 + part * gap) / 2 for part in (1, 0.8)]  # a mean gap of 0.5, and 0.1 less
        one, other = (prompt_biases(rng.multinomial(design.images, np.stack([p, 1 - p], 1))) for p in sides)
        found.append(ttest_1samp(one - other, 0).pvalue <= 0.05)
    assert np.mean(found) == pytest.approx(0.8, abs=0.07)


def test_more_prompts_need_fewer_images_each_and_more_power_needs_more():
    world = imagined_prompts(2)
    images = [design.images for design in plan(world, 0.1, 0.8, (20, 50, 100))]
    assert images == sorted(images, reverse=True)
    assert plan(world, 0.1, 0.95, [50])[0].images > images[1]
    assert plan(world, 0.2, 0.8, [50])[0].images < images[1]


def test_too_few_prompts_are_never_enough():
    assert plan(imagined_prompts(2), 0.01, 0.9, [5]) == [Design(5, None)]
    with pytest.raises(ValueError, match="no number of images"):
        simulated_power(imagined_prompts(2), 0.01, Design(5, None))


def test_the_prompts_of_a_pilot_are_what_is_planned_for():
    even, skewed = ([[8, 8], [0, 0]], [[16, 0], [0, 16]])
    assert set(map(tuple, imagined_prompts(2, even))) == {(0.5, 0.5)}
    assert set(map(tuple, imagined_prompts(2, skewed).round(3))) == {(0.971, 0.029), (0.029, 0.971)}


@pytest.mark.parametrize("detect", [0.0, 0.7])
def test_a_change_larger_than_the_gap_cannot_be(detect):
    with pytest.raises(UserError, match="cannot be"):
        plan(imagined_prompts(2), detect, 0.8, [50])
