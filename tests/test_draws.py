"""Every rule follows the target, and no image's class depends on which other images are asked about."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from fairbench.attributes import AttributeSpace, TargetDistribution
from fairbench.draws import Draw
from fairbench.errors import UserError
from fairbench.seeding import image_seed

RULES = ["iid", "quota", "by-seed"]
TARGETS = [
    ("gender", "uniform"),
    ("gender", "gender=0.25/0.75"),
    ("race", "race=.4/.3/.2/.1"),
    ("gender,race", "uniform"),
    ("gender,age", "gender=0.2/0.8,age=1/0"),
]
ROWS = [
    (prompt, image_seed("jobs", "1", prompt, index, 0)) for prompt in ("cook", "vet") for index in range(2000)
]
SEEDS = [seed for _, seed in ROWS]


def made(attributes, target, rule, rows=ROWS):
    space = AttributeSpace.parse(attributes)
    return Draw.make(space, TargetDistribution.parse(target, space), rule, rows)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("attributes", "target"), TARGETS)
def test_the_classes_follow_the_target_and_one_without_mass_never_comes(attributes, target, rule):
    draw = made(attributes, target, rule)
    counts = np.bincount(draw(SEEDS), minlength=len(draw.probabilities))
    wanted = len(SEEDS) * np.array(draw.probabilities)
    assert (counts[wanted == 0] == 0).all()
    assert chisquare(counts[wanted > 0], wanted[wanted > 0]).pvalue > 1e-3


@pytest.mark.parametrize("rule", RULES)
def test_a_class_belongs_to_its_seed_whatever_else_is_asked(rule):
    draw, again = made("gender,race", "uniform", rule), made("gender,race", "uniform", rule, ROWS[::-1])
    whole = draw(SEEDS)
    assert [int(draw([seed])[0]) for seed in SEEDS[:50]] == whole[:50].tolist()
    assert (again(np.array(SEEDS[::-1])) == whole[::-1]).all()


weights = st.lists(st.integers(1, 20), min_size=4, max_size=4)


@given(weights, st.integers(1, 40), st.integers(0, 1000))
def test_a_quota_is_exact_inside_each_prompt_up_to_rounding(weights, count, base):
    rows = [(prompt, base + 50 * number + i) for number, prompt in enumerate("ab") for i in range(count)]
    target = {"race": [weight / sum(weights) for weight in weights]}
    draw = made("race", target, "quota", rows)
    for prompt in "ab":
        counts = np.bincount(draw([seed for name, seed in rows if name == prompt]), minlength=4)
        wanted = count * np.array(draw.probabilities)
        assert (np.abs(counts - wanted) < 1 + 1e-9).all()


def test_a_quota_that_divides_is_exact_and_in_no_fixed_order():
    rows = [(str(prompt), 100 * prompt + index) for prompt in range(30) for index in range(16)]
    draw = made("gender,race", "gender=0.25/0.75", "quota", rows)
    classes = draw([seed for _, seed in rows]).reshape(30, 16)
    assert all(np.bincount(row).tolist() == [1] * 4 + [3] * 4 for row in classes)
    assert len({tuple(row) for row in classes}) == 30


def test_the_rounding_of_a_quota_is_right_on_average():
    rows = [(str(prompt), 10 * prompt + index) for prompt in range(3000) for index in range(3)]
    classes = made("race", "uniform", "quota", rows)([seed for _, seed in rows])
    assert chisquare(np.bincount(classes, minlength=4)).pvalue > 1e-3


def test_a_seed_outside_the_plan_is_drawn_as_if_independent():
    outside = list(range(500))
    assert (made("race", "uniform", "quota")(outside) == made("race", "uniform", "iid")(outside)).all()


def test_consecutive_seeds_are_handed_out_evenly_by_seed():
    draw = made("race", "race=.4/.3/.2/.1", "by-seed")
    for start in (0, 12345, 2**62):
        counts = np.bincount(draw(range(start, start + 100)), minlength=4)
        assert np.abs(counts - [40, 30, 20, 10]).max() <= 2


def test_an_unknown_rule_is_refused():
    with pytest.raises(UserError, match="unknown draw 'qota': did you mean 'quota'"):
        made("gender", "uniform", "qota")
