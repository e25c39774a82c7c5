"""A run against its reference: only what noise does not explain is worse."""

import numpy as np
import pytest

from fairbench.comparison.check import check
from fairbench.comparison.reference import (
    PromptResult,
    Reference,
    reference_of,
)
from fairbench.metrics.significance import holm, sign_flip_test
from tests.comparison.runs_of_one_method import SKEWED, stored

__all__ = ["stored"]


def verdicts(run, reference, **options):
    rows, _ = check(reference_of(run), reference_of(reference), **options)
    return {row.metric: row.worse for row in rows}


def test_noise_is_not_worse_and_a_worse_model_is(stored):
    reference = stored()
    assert not any(verdicts(reference, reference).values())
    assert not any(verdicts(stored(noise=1), reference).values())
    assert verdicts(stored(SKEWED, noise=2), reference) == {
        "gender bias": True,
        "recognised": False,
        "face_rate": False,
        "clip_t": False,
    }
    assert not any(verdicts(stored(0.5, noise=3), reference).values())
    assert verdicts(stored(recognised=0.7, noise=4), reference)["recognised"]
    assert verdicts(stored(faces=0.7, noise=5), reference)["face_rate"]


def test_what_is_tolerated_is_not_worse(stored):
    worse, reference = stored(SKEWED, noise=1), stored()
    assert verdicts(worse, reference, tolerance=0.02)["gender bias"]
    assert not verdicts(worse, reference, tolerance=0.4)["gender bias"]


def test_the_p_values_are_one_sided_and_adjusted(stored):
    run, reference = reference_of(stored(noise=1)), reference_of(stored())
    change = [
        np.subtract(
            *(abs(np.subtract(*side.prompts[key].counts["gender"])) / 16 for side in (run, reference))
        )
        for key in run.prompts
    ]
    quality = [
        [reference.prompts[key].quality[name] - run.prompts[key].quality[name] for key in run.prompts]
        for name in ("recognised", "face_rate", "clip_t")
    ]
    expected = holm([sign_flip_test(values, alternative="greater") for values in (change, *quality)])
    rows, notes = check(run, reference)
    assert [row.p_value for row in rows] == pytest.approx(expected)
    assert notes == []


def test_it_cries_wolf_as_rarely_as_it_says():
    """300 pairs of runs of one model: any metric worse in about 5 % of them, and no more."""
    rng = np.random.default_rng(0)
    share = rng.uniform(size=30)
    facts = dict.fromkeys(
        ("method", "draw_class", "model", "suite", "suite_sha256", "judge", "judge_sha256"), "x"
    )

    def draw():
        counts, quality = rng.binomial(16, share), rng.normal(size=(30, 2))
        return Reference(
            **facts,
            seed=0,
            target={},
            classes={"gender": ("female", "male")},
            prompts={
                str(k): PromptResult(
                    counts={"gender": (16 - counts[k], counts[k])},
                    quality={"recognised": quality[k, 0], "clip_t": quality[k, 1]},
                )
                for k in range(30)
            },
        )

    alarms = [any(row.worse for row in check(draw(), draw())[0]) for _ in range(300)]
    assert 0.01 <= np.mean(alarms) <= 0.09


def test_what_the_two_do_not_share_is_said(stored):
    reference = stored()
    _, notes = check(reference_of(stored(seed=1, draw_class="drawn")), reference_of(reference))
    assert "draw class: drawn, in the reference emergent" in notes
    assert "paired by prompt only: the noise differs" in notes
    rows, notes = check(reference_of(stored(SKEWED, suite="hobbies", images=60)), reference_of(reference))
    assert any(note.startswith("unpaired") for note in notes)
    assert "images with a face per prompt: 60, in the reference 16" in notes
    assert next(row for row in rows if row.metric == "gender bias").worse


def test_a_bias_is_measured_from_the_target_of_both_in_intersections_too(stored):
    def gender_by_age(share):
        found = reference_of(stored(share, target=(0.25, 0.75)))
        prompts = {
            key: prompt.model_copy(update={"counts": prompt.counts | {"gender x age": (f, 0, m, 0)}})
            for key, prompt in found.prompts.items()
            for f, m in [prompt.counts["gender"]]
        }
        classes = found.classes | {"gender x age": ("female young", "female old", "male young", "male old")}
        target = found.target | {"age": (1.0, 0.0)}
        return found.model_copy(update={"prompts": prompts, "classes": classes, "target": target})

    rows, _ = check(gender_by_age(0.75), gender_by_age(0.5))
    found = {row.metric: row for row in rows}
    for name in ("gender bias", "gender x age bias"):
        assert found[name].value < found[name].reference


def test_a_prompt_without_a_face_has_no_say(stored):
    rows, _ = check(reference_of(stored(faces=0.05, noise=1)), reference_of(stored()))
    assert {row.metric: row.worse for row in rows}["face_rate"]


def test_what_is_no_longer_measured_is_worse_and_what_is_new_is_said(stored):
    old = reference_of(stored())
    blind = {row.metric: row for row in check(reference_of(stored(faces=0.0)), old)[0]}["gender bias"]
    biases = [abs(np.subtract(*prompt.counts["gender"])) / 16 for prompt in old.prompts.values()]
    assert (blind.value, blind.worse, blind.reference) == (None, True, pytest.approx(np.mean(biases)))

    prompts = {
        key: PromptResult(
            counts={"age": prompt.counts["gender"]}, quality={"recognised": prompt.quality["recognised"]}
        )
        for key, prompt in old.prompts.items()
    }
    other = old.model_copy(update={"prompts": prompts, "classes": {"age": ("young", "old")}})
    rows, notes = check(other, old)
    assert {row.metric: row.worse for row in rows} == {
        "recognised": False,
        "gender bias": True,
        "face_rate": True,
        "clip_t": True,
    }
    assert notes == ["age bias: not in the reference"]
