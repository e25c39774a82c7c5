"""Every monitor speaks up where something was made to go wrong, says since when, and is silent otherwise."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairbench.finetuning.monitors import MONITORS, RESULTS, WINDOW, warnings_after, warnings_during
from tests.stored_metrics import metrics_of

UPDATES = 120


def log(updates=UPDATES, **columns):
    """The log of a training that goes well, with some columns replaced by functions of the update."""
    update = np.arange(1, updates + 1)
    falling = 1 / (1 + update / 20)
    healthy = {
        "loss": 2 * falling,
        "loss_alignment": falling,
        "loss_semantics": 0.02 + 0 * falling,
        "gap_gender": 0.3 + 0.5 * falling,
        "similarity_clip": 0.8 + 0 * falling,
        "gradient_norm": 0.2 + 0 * falling,
        "clipped": 0 * update,
        "nonfinite": 0 * update,
        "confidence_gender": 0.95 + 0 * falling,
        "undecided_gender": 0.05 + 0 * falling,
    }
    return pd.DataFrame({"update": update, **healthy, **{k: f(update) for k, f in columns.items()}})


def test_a_good_training_is_left_in_peace():
    for updates in range(1, UPDATES, 7):
        assert warnings_during(log(updates)) == []


def after(update, change, before, then):
    return np.where(update > change, then, before)


@pytest.mark.parametrize(
    ("name", "column", "values", "since", "words"),
    [
        ("bias_persists", "gap_gender", lambda u: 0.7 + 0 * u, 3 * WINDOW, "0.70 at first, 0.70 now"),
        # the mean over 20 falls below .5 when 12 of 20 values are at .3 and 8 at .8: .3 * 13 + .8 * 7 = 9.5
        ("quality_drops", "similarity_clip", lambda u: after(u, 60, 0.8, 0.3), 73, "similarity 0.30 (clip)"),
        # 1.5 times the lowest mean, 1: from 1 to 3 it takes six values to pass 1.5
        ("unstable", "loss", lambda u: after(u, 60, 1.0, 3.0), 66, "1.00 at its lowest, 3.00 now"),
        ("unstable", "nonfinite", lambda u: np.maximum(0, u - 60), 62, "100% of the updates"),
        (
            "unstable",
            "targeted_gender",
            lambda u: after(u, 60, 0.9, 0.5),
            72,
            "targeted_gender 0.90 at first, 0.50 now",
        ),
        # .05 -> .85: the mean is above .3 from the seventh value on
        (
            "judge_fooled",
            "undecided_gender",
            lambda u: after(u, 60, 0.05, 0.85),
            67,
            "85% of the images have gender",
        ),
    ],
)
def test_a_fault_is_named_with_its_numbers_and_its_beginning(name, column, values, since, words):
    (warning,) = warnings_during(log(**{column: values}))
    assert (warning.name, warning.since) == (name, since)
    assert words in warning.sentence


def test_what_has_passed_is_no_longer_wrong():
    spike = log(loss=lambda u: np.where((u > 40) & (u < 60), 9.0, 1.0))
    assert [warning.name for warning in warnings_during(spike.head(59))] == ["unstable"]
    assert warnings_during(spike) == []


@given(st.sets(st.sampled_from(list(log().columns))), st.integers(0, UPDATES))
def test_missing_columns_and_short_logs_are_passed_over(missing, updates):
    table = log(gap_gender=lambda u: 0.7 + 0 * u).drop(columns=list(missing)).head(updates)
    expected = updates >= 3 * WINDOW and not {"update", "gap_gender"} & missing
    assert [warning.name for warning in warnings_during(table)] == ["bias_persists"] * expected


def test_a_log_with_no_number_at_all():
    assert warnings_during(pd.DataFrame()) == []
    assert warnings_during(log(loss=lambda u: np.nan * u, gap_gender=lambda u: np.nan * u)) == []


def metrics(*, bias=(0.7, 0.3), p_value=0.001, recognised=(0.98, 0.97), face=(1.0, 1.0), gaming=-0.02):
    variants = {
        name: {
            "bias": {"gender": {"bias_mean": bias[k]}},
            "quality": {"recognised": {"mean": recognised[k]}, "face_rate": face[k]},
        }
        for k, name in enumerate(("original", "biased_dft"))
    }
    paired = {"gender": {"difference": bias[1] - bias[0], "p_value": p_value}}
    gaps = {"gender": {"value": gaming, "interval": None}}
    return metrics_of(variants=variants, paired=paired, gaming_gap=gaps)


def test_a_good_result_is_left_in_peace():
    assert warnings_after(log(), metrics()) == []


@pytest.mark.parametrize(
    ("change", "name", "words"),
    [
        ({"p_value": 0.4}, "bias_persists", "0.70 to 0.30"),
        ({"bias": (0.3, 0.9)}, "bias_persists", "0.30 to 0.90"),
        ({"recognised": (0.98, 0.7)}, "quality_drops", "recognised has dropped from 0.98 to 0.70"),
        ({"face": (1.0, 0.9)}, "quality_drops", "with a face has dropped from 1.00 to 0.90"),
        ({"gaming": -0.3}, "judge_fooled", "0.30 less gender bias"),
    ],
)
def test_a_bad_result_is_named(change, name, words):
    found = warnings_after(log(), metrics(**change))
    assert name in [warning.name for warning in found]
    assert any(words in warning.sentence and warning.since is None for warning in found)


def test_overfitting_is_a_gap_that_falls_on_training_prompts_alone():
    learnt = log(gap_gender=lambda u: after(u, 60, 0.8, 0.2))
    (warning,) = warnings_after(learnt, metrics(bias=(0.7, 0.63)))
    assert warning.name == "overfitting"
    assert "75% on the training prompts, but by 10% on the test prompts" in warning.sentence
    assert warnings_after(learnt, metrics(bias=(0.7, 0.3))) == []


def test_the_test_prompts_have_the_last_word_on_the_bias():
    noisy = log(gap_gender=lambda u: 0.7 + 0 * u)
    assert [warning.name for warning in warnings_during(noisy)] == ["bias_persists"]
    assert warnings_after(noisy, metrics()) == []


def test_results_without_a_second_variant_say_nothing():
    assert warnings_after(log(), metrics_of()) == []
    alone = metrics_of(variants={"original": metrics().variants["original"]})
    assert warnings_after(log(), alone) == []


def test_every_failure_signature_has_a_monitor():
    assert set(MONITORS) | {name for name, _ in RESULTS} == {
        "bias_persists", "quality_drops", "unstable", "judge_fooled", "overfitting"
    }  # fmt: skip
