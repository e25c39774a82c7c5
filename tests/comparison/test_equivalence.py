"""Whether quality stayed the same: shown within a margin, never assumed."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_1samp

from fairbench.comparison.compare import compare
from fairbench.comparison.equivalence import MARGINS, by_prompt
from fairbench.errors import UserError
from fairbench.metrics.significance import holm


def test_unchanged_quality_is_shown_not_assumed(stored):
    same, worse = stored("same", 0.5), stored("worse", 0.5, recognised=0.6, noise=1)
    found = compare([same, worse], margins={"recognised": 0.1})
    change = {each["label"]: each["change"] for each in found["quality"]["recognised"]}
    assert change["A"] is None
    assert change["B"]["unchanged"] and change["B"]["margin"] == 0.1
    assert not change["C"]["unchanged"] and change["C"]["difference"] < -0.2
    strict = compare([same], margins={"recognised": 0.001})
    assert not strict["quality"]["recognised"][1]["change"]["unchanged"]
    with pytest.raises(UserError, match="unknown measure 'clip'"):
        compare([same], margins={"clip": 0.1})


def test_every_prompt_has_the_mean_of_its_images():
    rows = pd.DataFrame(
        {
            "prompt_id": ["cook", "maid", "cook", "cook"],
            "judge/face": [0.9, 0.1, 0.5, 0.4],
            "judge/recognised": pd.array([True, None, False, None], dtype="boolean"),
            "clip_t": [0.1, 0.5, 0.2, 0.3],
            "dino": [np.nan] * 4,
        }
    )
    assert by_prompt(rows, "face_rate", "judge").to_dict() == pytest.approx({"cook": 2 / 3, "maid": 0})
    assert by_prompt(rows, "clip_t", "judge").to_dict() == pytest.approx({"cook": 0.2, "maid": 0.5})
    recognised = by_prompt(rows, "recognised", "judge")
    assert (
        list(recognised.index) == ["cook", "maid"]
        and recognised["cook"] == 0.5
        and np.isnan(recognised["maid"])
    )
    assert by_prompt(rows, "dino", "judge") is None and by_prompt(rows, "clip_i", "judge") is None


def test_a_change_is_two_one_sided_t_tests_and_all_of_them_are_one_family(stored):
    runs = [stored("one", 0.5), stored("two", 0.5, noise=1)]
    quality = compare(runs)["quality"]
    assert set(quality) == {"recognised", "face_rate", "clip_t"}
    means = [
        run.records[run.records["variant"] == name].groupby("prompt_id", sort=False)["clip_t"].mean()
        for run, name in ((runs[0], "original"), (runs[0], "one"), (runs[1], "two"))
    ]
    for mean, each in zip(means, quality["clip_t"], strict=True):
        assert each.mean == pytest.approx(mean.mean())
        if each.change:
            sides = ((-MARGINS["clip_t"], "greater"), (MARGINS["clip_t"], "less"))
            tests = [ttest_1samp(mean - means[0], edge, alternative=side) for edge, side in sides]
            assert each.change.p_value == pytest.approx(max(test.pvalue for test in tests))
            interval = ttest_1samp(mean - means[0], 0).confidence_interval(0.9)
            assert each.change.interval == pytest.approx((interval.low, interval.high))
    changes = [each.change for rows in quality.values() for each in rows if each.change]
    assert [change.p_holm for change in changes] == pytest.approx(
        holm([change.p_value for change in changes])
    )
    assert [change.unchanged for change in changes] == [change.p_holm <= 0.05 for change in changes]


def test_what_the_first_run_lacks_is_compared_with_the_first_that_has_it(stored):
    runs = [stored("one", 0.5), stored("two", 0.5, noise=1)]
    for value, run in zip((0.9, 0.8), runs, strict=True):
        run.records["clip_i"] = np.where(run.records["variant"] == "original", np.nan, value)
    one, two = compare(runs)["quality"]["clip_i"]
    assert (one.label, one.mean, one.change) == ("B", pytest.approx(0.9), None)
    assert (two.label, two.change.difference, two.change.unchanged) == ("C", pytest.approx(-0.1), False)


def test_without_pairs_nothing_is_said_to_be_unchanged(stored):
    quality = compare([stored("one", 0.5), stored("two", 0.5, suite="hobbies")], unpaired=True)["quality"]
    assert {each.change for rows in quality.values() for each in rows} == {None}
    assert len(quality["clip_t"]) == 4
