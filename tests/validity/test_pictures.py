"""Pictures of known people: that who is in them is what was told, and that injected errors are taken back."""

import numpy as np
import pytest

from fairbench.judges import load_judge
from fairbench.portraits.renderer import PortraitsRenderer
from fairbench.suites import load_suite
from fairbench.validity.pictures import MODELS, _confusion, _judged, _misread, _told, pictures


@pytest.fixture(scope="module")
def drawn():
    prompts = load_suite("occupations").prompts("test")[:4]
    renderer = PortraitsRenderer(**MODELS["skewed"])
    return _judged(load_judge("portraits-eval-a"), renderer, prompts, 60, np.random.default_rng(0))


def test_people_are_as_told(drawn) -> None:
    assert len(drawn.records) == 240 and drawn.records["prompt_id"].nunique() == 4
    for attribute in ("gender", "race", "gender x race"):
        told = _told("skewed", attribute)
        shares = np.bincount(drawn.truth[attribute], minlength=len(told)) / 240
        assert (np.abs(shares - told) < 4 * np.sqrt(told * (1 - told) / 240) + 1e-9).all()
    assert drawn.truth["gender x race"].tolist() == (4 * drawn.truth["gender"] + drawn.truth["race"]).tolist()


def test_errors_are_injected_at_their_rates(drawn) -> None:
    before, after = (
        _confusion(drawn, "gender"),
        _confusion(_misread(drawn, np.random.default_rng(0)), "gender"),
    )
    assert before.sum() == after.sum() == 240 and np.trace(before) > 235
    wrong = 1 - np.diag(after) / after.sum(axis=1)
    np.testing.assert_allclose(wrong, [0.02, 0.08], atol=0.06)
    assert _confusion(drawn, "gender x race").shape == (8, 8)


def test_every_model_attribute_and_kind_of_errors() -> None:
    table = pictures("portraits-eval-a", 3, 12, 200, 0)
    assert len(table) == 3 * 2 * 3
    rows = table.set_index(["model", "errors", "attribute"])
    one = rows.loc[("one-sided", "injected as well", "gender")]
    assert one["truth"] == one["drawn"] == 1 and one["uncorrected"] < 0.95 < one["corrected"] + 0.2
    assert rows.loc[("fair", "the judge's", "race"), "truth"] == 0
    assert rows.loc[("skewed", "the judge's", "gender"), "truth"] == pytest.approx(0.6)
    assert (table["low"] <= table["high"]).all() and table["holds"].mean() > 0.7
