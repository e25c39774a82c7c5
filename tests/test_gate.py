"""The project's own gate: the shipped model, generated afresh, against the reference that is committed."""

from pathlib import Path

import pytest

from fairbench.comparison.check import check
from fairbench.comparison.reference import load_reference, reference_of
from fairbench.config import make_config, spec
from fairbench.pytest_plugin import assert_bias_at_most
from fairbench.runs.run import run
from fairbench.store.load import load_run

REFERENCE = Path(__file__).parents[1] / "results" / "reference" / "portraits.json"


def evaluated(model, place, **sizes):
    name, options = spec(model)
    settings = {"method": "original", "model": name, "model_options": options, **sizes}
    run(make_config(settings | {"attributes": "gender,race,age"}), place)
    return load_run(place)


def worse(stored):
    rows, _ = check(reference_of(stored), load_reference(REFERENCE))
    return {row.metric for row in rows if row.worse}


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    """As many images of a prompt as the reference has: these are the same ones until the model changes."""
    return evaluated("portraits", tmp_path_factory.mktemp("gate") / "portraits", test_prompts=8)


@pytest.mark.slow
def test_the_shipped_model_is_not_worse_than_its_reference(shipped):
    assert worse(shipped) == set()


@pytest.mark.slow
def test_the_shipped_model_passes_one_limit_and_fails_another(shipped):
    assert_bias_at_most(shipped, "race", 0.45)
    with pytest.raises(AssertionError, match="the bias is too high"):
        assert_bias_at_most(shipped, "gender", 0.25)


@pytest.mark.slow
def test_a_generator_of_men_alone_does_not_pass(tmp_path):
    stored = evaluated("portraits-renderer[male=1.0]", tmp_path / "men")
    assert "gender bias" in worse(stored) and "race bias" not in worse(stored)
    with pytest.raises(AssertionError, match="the bias is too high"):
        assert_bias_at_most(stored, "gender", 0.95)
