"""The project's own gate: the shipped model, generated afresh, against the reference that is committed."""

from pathlib import Path

import pytest

from fairbench.config import make_config, spec
from fairbench.pytest_plugin import assert_bias_at_most
from fairbench.runs.check import check
from fairbench.runs.reference import load_reference, reference_of
from fairbench.runs.runner import run
from fairbench.runs.stored import load_run

REFERENCE = Path(__file__).parents[1] / "results" / "reference" / "portraits.json"


def evaluated(model, place):
    """Ten occupations, four images each: what a gate can afford at every change."""
    name, options = spec(model)
    settings = {"method": "original", "model": name, "model_options": options}
    settings |= {"attributes": "gender,race,age", "test_prompts": 10, "images_per_prompt": 4}
    run(make_config(settings), place)
    return load_run(place)


def worse(stored):
    rows, _ = check(reference_of(stored), load_reference(REFERENCE))
    return {row.metric for row in rows if row.worse}


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    return evaluated("portraits", tmp_path_factory.mktemp("gate") / "portraits")


@pytest.mark.slow
def test_the_shipped_model_is_not_worse_than_its_reference(shipped):
    assert worse(shipped) == set()


@pytest.mark.slow
def test_the_shipped_model_is_biased_and_not_beyond_measure(shipped):
    assert_bias_at_most(shipped, "gender", 0.95)
    with pytest.raises(AssertionError, match="the bias is too high"):
        assert_bias_at_most(shipped, "gender", 0.25)


@pytest.mark.slow
def test_a_model_that_knows_men_alone_does_not_pass(tmp_path):
    stored = evaluated("portraits-renderer[male=1.0]", tmp_path / "men")
    assert "gender bias" in worse(stored)
    with pytest.raises(AssertionError, match="the bias is too high"):
        assert_bias_at_most(stored, "gender", 0.95)
