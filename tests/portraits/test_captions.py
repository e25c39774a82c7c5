"""Captions tell the truth about their picture, and only what they are meant to tell."""

import numpy as np
import pytest

from fairbench.attributes import ATTRIBUTES
from fairbench.portraits.captions import WORDS, caption, draw_captioned, explicit, neutral
from fairbench.portraits.world import role, roles, sample_person
from fairbench.suites import load_suite

RNG = np.random.default_rng(0)
DRAWN = [draw_captioned(RNG, list(roles().values())) for _ in range(6000)]
GENDER_WORDS = {"female": {"female", "woman"}, "male": {"male", "man"}}


def words(text: str) -> set[str]:
    return set(text.replace(",", "").split())


def named_gender(text: str) -> str | None:
    return next((label for label, marks in GENDER_WORDS.items() if marks & words(text)), None)


def test_named_genders_are_true():
    named = [(person, named_gender(text)) for person, text in DRAWN if person.face and named_gender(text)]
    assert len(named) > 1000
    assert all(person.label("gender") == gender for person, gender in named)


def test_nearly_half_the_captions_name_an_attribute():
    marks = {word for labels in WORDS.values() for forms in labels.values() for word in forms} | {
        "woman",
        "man",
    }
    share = np.mean([any(f" {mark} " in f"{text.replace(',', ' ')} " for mark in marks) for _, text in DRAWN])
    assert 0.35 < share < 0.5


def test_people_of_captions_without_gender_follow_the_declared_skew():
    gaps, entry = [], role("nurse")
    for person, text in DRAWN:
        if person.face and person.role.kind == "occupation" and named_gender(text) is None:
            gaps.append((person.role.probabilities["gender"][1], person.attributes["gender"]))
    declared, seen = map(np.array, zip(*gaps, strict=True))
    assert seen[declared > 0.9].mean() == pytest.approx(declared[declared > 0.9].mean(), abs=0.04)
    assert seen[declared < 0.1].mean() == pytest.approx(declared[declared < 0.1].mean(), abs=0.04)
    assert entry.probabilities["gender"][1] < 0.5


def test_a_caption_mentions_exactly_what_it_is_told():
    person = sample_person(np.random.default_rng(5), role("butcher"))
    for named in ([], ["gender"], ["race", "age"], ["gender", "race", "age"]):
        text = caption(np.random.default_rng(1), person, named)
        assert (named_gender(text) is not None) == ("gender" in named)
        for attribute in ("race", "age"):
            assert bool(set(WORDS[attribute][person.label(attribute)]) & words(text)) == (attribute in named)


def test_the_neutral_caption_is_the_prompt_of_the_suites():
    for name in ("occupations", "sports", "descriptors"):
        assert all(
            neutral(role(prompt.concept)) == prompt.text for prompt in load_suite(name).prompts("test")
        )


def test_explicit_prompts_exist_for_every_class():
    prompts = {
        explicit(role("senator"), name, label) for name, labels in ATTRIBUTES.items() for label in labels
    }
    assert len(prompts) == 8
