"""Classes are written into prompts the way English does it."""

import re

import pytest

from fairbench.attributes import ATTRIBUTES, AttributeSpace
from fairbench.errors import UserError
from fairbench.suites import list_suites, load_suite
from fairbench.wording import (
    WORDS,
    class_words,
    described,
    names,
    other_words,
    subject,
    substituted,
    with_article,
)

ALL = AttributeSpace.parse("gender,race,age")
GENDER = AttributeSpace.parse("gender")


def classed(prompt, *labels):
    space = AttributeSpace(tuple(next(a for a, cs in ATTRIBUTES.items() if label in cs) for label in labels))
    return described(prompt, space, space.labels.index(" ".join(labels)))


@pytest.mark.parametrize(
    ("prompt", "labels", "expected"),
    [
        ("the face of a pilot, a person", ["female"], "the face of a female pilot, a person"),
        ("a photo of the face of an engineer", ["male"], "a photo of the face of a male engineer"),
        ("a photo of a pilot", ["Asian"], "a photo of an Asian pilot"),
        ("a photo of a pilot", ["male", "Black", "old"], "a photo of an old Black male pilot"),
        ("a photo of a pilot", ["young", "female", "WMELH"], "a photo of a young white female pilot"),
        ("An engineer", ["male"], "A male engineer"),
        ("A nurse", ["Indian"], "An Indian nurse"),
        ("the face of the nurse", ["old"], "the face of the old nurse"),
        ("a close-up of a person playing golf", ["male"], "a close-up of a male person playing golf"),
        ("a photo of a woman", ["male"], "a photo of a woman"),
        ("a photo of a woman", ["male", "Asian"], "a photo of an Asian woman"),
        ("a photo of a white-collar worker", ["Black"], "a photo of a Black white-collar worker"),
    ],
)  # fmt: skip
def test_the_class_stands_before_the_subject_with_the_article_it_asks_for(prompt, labels, expected):
    assert classed(prompt, *labels) == expected


def test_the_order_of_the_attributes_does_not_matter():
    assert classed("a nurse", "old", "female") == classed("a nurse", "female", "old")


@pytest.mark.parametrize("name", list_suites())
def test_every_prompt_of_the_suites_takes_every_class_and_then_names_it(name):
    for split in load_suite(name).splits:
        for prompt in load_suite(name).prompts(split):
            for k in range(ALL.size):
                text = described(prompt.text, ALL, k)
                assert all(names(text, attribute) for attribute in ALL.names)
                assert described(text, ALL, 0) == text


@pytest.mark.parametrize("prompt", ["mountains", "a photo of mountains", "", "nurses at work"])
def test_a_prompt_without_a_subject_is_refused(prompt):
    with pytest.raises(UserError, match="has no subject to describe: write it with an article"):
        described(prompt, GENDER, 0)
    with pytest.raises(UserError, match="has no subject"):
        subject(prompt)


def test_every_class_has_words_of_its_own():
    assert {name: set(words) for name, words in WORDS.items()} == {n: set(c) for n, c in ATTRIBUTES.items()}
    assert len(set(class_words(ALL))) == ALL.size
    assert class_words(AttributeSpace.parse("gender,age"))[1] == "old female"


def test_other_words_are_all_but_those_of_the_class():
    both = AttributeSpace.parse("gender,race")
    assert other_words("a female nurse", GENDER, 0) == "male"
    assert other_words("a Black nurse", AttributeSpace.parse("race"), 1) == "white, Indian, Asian"
    assert other_words("a white female nurse", both, 0) == "Black, Indian, Asian, male"
    assert other_words("a photo of a woman", GENDER, 1) == ""
    assert other_words("a photo of a white woman", both, 4) == "Black, Indian, Asian"


def test_classes_without_words_are_refused():
    with pytest.raises(
        UserError, match="no words for the classes of skin_tone: this method cannot balance it"
    ):
        class_words(AttributeSpace(("skin_tone",)))
    with pytest.raises(UserError, match="no words for the classes of skin_tone"):
        described("a photo of a cook", AttributeSpace(("gender", "skin_tone")), 0)


AN = """
    engineer, umpire, usher, upholsterer, undertaker, urban planner, understudy, ugly person, unassuming
    cook, unidentified person, uninsured person, unimportant person, unimaginative artist, unintelligent
    answer, unironic poet, unilluminated face, unarmed guard, unusual person, omnivore, only child, hour,
    hourly worker, heir, heiress, honest person, honour, honorary consul, honourable member, MRI nurse, FBI
    agent, HR manager, NGO worker, LGBT activist, SEO expert, EU official, AI researcher, X-ray technician,
    x-ray technician, F1 driver, L.A. mayor, A-list actor, e-sports player, élite athlete, 8-year-old,
    80-year-old, 11-year-old, 18-year-old
"""
A = """
    user, usual suspect, usurper, utility worker, utilitarian, urologist, uranium miner, ukulele player,
    Ukrainian, Ugandan, Uruguayan, Uyghur, ubiquitous face, ufologist, union worker, uniform maker,
    unicyclist, university student, unique person, unisex barber, unit clerk, unidirectional sign, unanimous
    jury, UX designer, UK citizen, US senator, U.S. senator, UFO hunter, U-boat captain, European, eunuch,
    eulogist, one-man band, once-famous actor, pilot, hotel manager, historian, Honolulu resident, houri,
    Mayor, München resident, PhD student, NASA engineer, 7-year-old, 1-year-old, 12-year-old, 110-year-old
"""


@pytest.mark.parametrize(("article", "nouns"), [("an", AN), ("a", A)])
def test_the_article_follows_the_sound(article, nouns):
    wrong = [noun for noun in re.split(r",\s+", nouns.strip()) if with_article(noun) != f"{article} {noun}"]
    assert not wrong


def test_the_subject_stands_without_its_article():
    assert subject("a photo of the face of a police officer, a person") == "police officer"


def test_substitution_keeps_the_rest_and_mends_the_article():
    assert (
        substituted("a photo of an engineer, a person", "engineer", "male") == "a photo of a male, a person"
    )
    assert substituted("face of the engineer", "engineer", "old") == "face of the old"
    assert substituted("A nurse, a nurse", "nurse", "engineer") == "An engineer, a nurse"
    assert substituted("An Asian", "Asian", "UX designer") == "A UX designer"
    assert substituted("a nurse", "cook", "engineer") == "a nurse"
