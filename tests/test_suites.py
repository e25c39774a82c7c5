import re
from importlib.resources import files

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fairbench.errors import UserError
from fairbench.suites import Prompt, PromptSuite, list_suites, load_suite

SUITE = {
    "name": "jobs",
    "version": "1",
    "licence": "MIT",
    "source": "made for this test",
    "placeholder": "job",
    "templates": ["a photo of a {job}"],
    "splits": {"train": ["nurse"], "validation": ["cook"], "test": ["air pilot", "Judge"]},
}


@pytest.fixture
def load(tmp_path):
    def load(**changes):
        path = tmp_path / "jobs.yaml"
        path.write_text(yaml.safe_dump({**SUITE, **changes}, sort_keys=False), encoding="utf-8")
        return load_suite(path)

    return load


def test_prompts_are_the_concepts_in_the_template(load):
    assert load().prompts("test") == [
        Prompt("air-pilot", "a photo of a air pilot", "air pilot", "job", "test"),
        Prompt("judge", "a photo of a Judge", "Judge", "job", "test"),
    ]


def test_templates_may_differ_between_splits(load):
    templates = {"train": ["{job}"], "validation": ["{job}"], "test": ["a {job}, a {job}", "{{job}}"]}
    suite = load(templates=templates)
    assert [(prompt.id, prompt.text) for prompt in suite.prompts("test")] == [
        ("air-pilot.0", "a air pilot, a air pilot"),
        ("air-pilot.1", "{air pilot}"),
        ("judge.0", "a Judge, a Judge"),
        ("judge.1", "{Judge}"),
    ]
    assert [prompt.text for prompt in suite.prompts("train")] == ["nurse"]


def test_the_hash_is_that_of_the_content(load, tmp_path):
    suite = load()
    reordered = tmp_path / "reordered.yml"
    reordered.write_text("# a comment\n" + yaml.safe_dump(dict(reversed(SUITE.items())), sort_keys=False))
    assert load_suite(reordered).sha256 == suite.sha256
    assert load(version="2").sha256 != suite.sha256
    assert load(splits={**SUITE["splits"], "test": ["Judge", "air pilot"]}).sha256 != suite.sha256


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"splits": {**SUITE["splits"], "test": []}}, "splits.test: .*at least 1"),
        ({"splits": {**SUITE["splits"], "test": None}}, "splits.test: "),
        ({"splits": {**SUITE["splits"], "test": [" "]}}, "splits.test.0: "),
        ({"splits": {**SUITE["splits"], "test": [True]}}, "splits.test.0: "),
        ({"splits": {**SUITE["splits"], "tests": ["x"]}}, "splits.tests"),
        ({"splits": {}}, "splits: .*at least 1"),
        ({"splits": "test"}, "splits: "),
        ({"splits": {**SUITE["splits"], "test": ["Nurse"]}}, "'Nurse' in test is already in train"),
        ({"splits": {**SUITE["splits"], "test": ["!"]}}, "needs a letter"),
        ({"templates": ["a photo of a person"]}, r"lacks its placeholder '\{job\}'"),
        ({"templates": ["a photo of a {jbo}"]}, "lacks its placeholder"),
        ({"templates": []}, "templates.*: .*at least 1"),
        ({"templates": {"train": ["{job}"]}}, "none for the split"),
        ({"templats": []}, "unknown key 'templats': did you mean 'templates'"),
        ({"version": 1}, "version: .*string"),
        ({"name": ""}, "name: "),
    ],
)
def test_a_faulty_suite_is_refused_in_one_line(load, changes, message):
    with pytest.raises(UserError, match=message) as caught:
        load(**changes)
    assert "\n" not in str(caught.value)


def test_a_missing_key_is_named(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("name: x")
    with pytest.raises(UserError, match="placeholder: Field required"):
        load_suite(path)


def test_a_suite_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(UserError, match="unknown suite 'ocupations': did you mean 'occupations'"):
        load_suite("ocupations")
    with pytest.raises(UserError, match="no such file"):
        load_suite(tmp_path / "x.yaml")


def test_a_split_that_does_not_exist_is_refused(load):
    suite = load(splits={"test": ["pilot"]})
    with pytest.raises(UserError, match="unknown split of jobs 'train'; known: test"):
        suite.prompts("train")


@given(st.lists(st.text(min_size=1), min_size=1, max_size=5))
def test_identifiers_are_unique_and_fit_any_file_system(concepts):
    try:
        suite = PromptSuite.model_validate({**SUITE, "splits": {"test": concepts}})
    except (ValueError, UserError):
        return
    identifiers = [prompt.id for prompt in suite.prompts("test")]
    assert len({identifier.lower() for identifier in identifiers}) == len(concepts)
    for identifier in identifiers:
        assert "/" not in identifier
        assert not identifier.startswith(".")
        assert len(identifier.encode()) < 255


@pytest.mark.parametrize("name", list_suites())
def test_packaged_suites_load_under_their_own_name(name):
    suite = load_suite(name)
    assert suite.name == name
    for split in ("train", "validation", "test") if suite.measures == "bias" else ("validation", "test"):
        assert suite.prompts(split)


def test_the_occupations_are_those_of_the_paper():
    suite = load_suite("occupations")
    assert len(suite.prompts("train")) >= 100
    assert len(suite.prompts("validation")) == 10
    assert len(suite.prompts("test")) == 50


def test_a_prompt_names_the_classes_of_its_template_not_of_its_concept():
    words = {"gender": {"female": ["woman", "female"], "male": ["man"]}, "race": {"Indian": ["Indian"]}}
    templates = ["an old woman, a {job}", "a man, a {job}", "an Indian {job}"]
    suite = PromptSuite.model_validate(
        {**SUITE, "placeholder": "job", "templates": templates, "measures": "obedience", "words": words}
        | {"splits": {"test": ["Indian cook"]}}
    )
    assert [dict(prompt.named) for prompt in suite.prompts("test")] == [
        {"gender": "female"}, {"gender": "male"}, {"race": "Indian"},
    ]  # fmt: skip
    with pytest.raises(ValueError, match="has none of the words"):
        PromptSuite.model_validate({**suite.model_dump(), "templates": ["a person, a {job}"]})
    with pytest.raises(ValueError, match="gender has no class woman"):
        PromptSuite.model_validate({**suite.model_dump(), "words": {"gender": {"woman": ["woman"]}}})


@pytest.mark.parametrize("name", ["explicit", "combined", "no_people"])
def test_suites_of_side_effects_say_only_words_that_the_packaged_model_learnt(name):
    from transformers import CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(
        str(files("fairbench.portraits") / "checkpoint" / "tokenizer"), local_files_only=True
    )
    suite = load_suite(name)
    for prompt in [*suite.prompts("validation"), *suite.prompts("test")]:
        pieces = tokenizer.tokenize(prompt.text)
        assert all(piece.endswith("</w>") for piece in pieces), (prompt.text, pieces)
        assert bool(prompt.named) == (suite.measures == "obedience")
    if name == "explicit":
        assert {len(prompt.named) for prompt in suite.prompts("test")} == {1}
    if name == "combined":
        assert {len(prompt.named) for prompt in suite.prompts("test")} == {3}


LONG = "person who earns a living, day by day and year by year, at the side of a "


def test_concepts_that_would_be_called_alike_are_told_apart(load):
    """C++ and C#, and what differs behind the first 60 letters; all others keep their names."""
    names = ["C++ coder", "C# coder", LONG + "nurse", LONG + "pilot", "judge"]
    ids = {prompt.concept: prompt.id for prompt in load(splits={"test": names}).prompts("test")}
    assert len(set(ids.values())) == 5 and ids["judge"] == "judge"
    assert re.fullmatch(r"c-coder-[0-9a-f]{8}", ids["C++ coder"])
    assert all(len(name) <= 69 for name in ids.values())
    alone = load(splits={"test": ["C++ coder", LONG + "nurse"]}).prompts("test")
    assert [prompt.id for prompt in alone] == ["c-coder", ids[LONG + "nurse"].rpartition("-")[0]]


@pytest.mark.parametrize("again", ["c++  CODER", "C++-coder", "C++_coder"])
def test_two_spellings_of_one_concept_are_one(load, again):
    with pytest.raises(UserError, match="is already in train"):
        load(splits={"train": ["C++ coder"], "test": [again]})
