"""The declared world: complete, skewed as documented, and the same as the suites say."""

import numpy as np
import pytest

from fairbench.attributes import ATTRIBUTES
from fairbench.errors import UserError
from fairbench.portraits.icons import SHAPES
from fairbench.portraits.world import role, roles, sample_person, with_attributes
from fairbench.suites import load_suite

OCCUPATIONS = [entry for entry in roles().values() if entry.kind == "occupation"]


def of_split(split: str) -> list:
    return [entry for entry in OCCUPATIONS if entry.split == split]


def test_it_has_the_occupations_of_the_paper_and_enough_to_train_on():
    assert (len(of_split("test")), len(of_split("validation"))) == (50, 10)
    assert len(of_split("train")) >= 100
    assert len({entry.sector for entry in OCCUPATIONS}) >= 12
    assert sum(entry.kind == "sport" for entry in roles().values()) >= 8
    assert sum(entry.kind == "descriptor" for entry in roles().values()) >= 8


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_declared_gender_gap_is_as_large_as_documented(split):
    gaps = [
        abs(entry.probabilities["gender"][1] - entry.probabilities["gender"][0]) for entry in of_split(split)
    ]
    assert np.mean(gaps) == pytest.approx(0.68, abs=0.05)


def test_every_distribution_is_one_and_has_the_classes_of_its_attribute():
    for entry in roles().values():
        for attribute, labels in ATTRIBUTES.items():
            assert len(entry.probabilities[attribute]) == len(labels)
            assert sum(entry.probabilities[attribute]) == pytest.approx(1)
            assert min(entry.probabilities[attribute]) > 0


def test_no_two_roles_look_the_same():
    assert len({entry.look for entry in roles().values()}) == len(roles())
    assert all(entry.look.icon in SHAPES for entry in roles().values())


@pytest.mark.parametrize("name", ["occupations", "sports", "descriptors", "occupations_in_context"])
def test_every_concept_of_the_suites_is_a_role_of_the_same_split(name):
    suite = load_suite(name)
    for split in ("train", "validation", "test"):
        assert {role(prompt.concept).split for prompt in suite.prompts(split)} == {split}


def test_people_follow_the_declared_distributions():
    rng, entry = np.random.default_rng(0), role("sergeant")
    people = [sample_person(rng, entry) for _ in range(4000)]
    for attribute, declared in entry.probabilities.items():
        counts = np.bincount([person.attributes[attribute] for person in people], minlength=len(declared))
        assert counts / len(people) == pytest.approx(np.array(declared), abs=0.03)


def test_attributes_can_be_set_without_touching_the_rest():
    person = sample_person(np.random.default_rng(1), role("butcher"))
    changed = with_attributes(person, gender=0)
    assert (changed.label("gender"), changed.seed, changed.role) == ("female", person.seed, person.role)


def test_an_unknown_role_is_answered_with_a_near_one():
    with pytest.raises(UserError, match="sergeant"):
        role("sargeant")
