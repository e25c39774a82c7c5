"""The metrics of records whose chances are known: what a run set out for is what it is measured from."""

from math import comb
from statistics import fmean

import numpy as np
import pandas as pd
import pytest

from fairbench.finetuning.monitors import warnings_after
from fairbench.metrics.counts import prompt_biases
from fairbench.metrics.significance import paired_permutation_test
from fairbench.scoring.score import _bias_test, score_records
from fairbench.store.measurement import JudgeUsed, Measurement
from fairbench.store.results import PromptSummary, Summary

CLASSES = {"gender": ("female", "male")}
UNEVEN = (0.25, 0.75)


def records(men, images=16, teacher=None):
    """Records of variant -> men of each prompt among so many images with a face; the others show none."""
    rows = []
    for variant, each in men.items():
        for prompt, (count, seen) in enumerate(each):
            for image in range(images):
                face = 0.9 if image < seen else 0.1
                row = {"variant": variant, "prompt_id": f"p{prompt}", "prompt": f"a {prompt}", "clip_t": 0.3}
                for judge, males in {"judge": count, **({"teacher": teacher} if teacher else {})}.items():
                    male = float(image < males)
                    row |= {f"{judge}/face": face, f"{judge}/recognised": True}
                    row |= {f"{judge}/gender/female": 1 - male, f"{judge}/gender/male": male}
                rows.append(row)
    return pd.DataFrame(rows)


def measured(table, target=(0.5, 0.5), trained=False):
    judges = [JudgeUsed(name="judge", attributes=CLASSES)]
    judges += [JudgeUsed(name="teacher", trained=True, attributes=CLASSES)] if trained else []
    return score_records(
        table,
        {},
        Measurement(
            method="method",
            draw_class="emergent",
            model="world",
            suite="jobs",
            attributes=("gender",),
            target={"gender": target},
            judges=tuple(judges),
        ),
    )


def on_target(prompts=12, images=16):
    """Half the men of the target in the original, all of them with the method."""
    return {"original": [(6, images)] * prompts, "method": [(12, images)] * prompts}


def test_a_method_that_reaches_an_uneven_target_has_no_bias_left_and_no_warning():
    metrics = measured(records(on_target()), UNEVEN)
    bias = {name: entry["bias"]["gender"] for name, entry in metrics["variants"].items()}
    # |(f_0 - .25) - (f_1 - .75)| with f = (10, 6) / 16 and (4, 12) / 16
    assert bias["original"]["bias_mean"] == pytest.approx(0.75) and bias["method"]["bias_mean"] == 0
    assert metrics["paired"]["gender"]["difference"] == pytest.approx(-0.75)
    assert metrics["paired"]["gender"]["p_value"] < 0.01
    assert warnings_after(pd.DataFrame(), metrics) == []
    even = measured(records(on_target()))
    assert even["variants"]["method"]["bias"]["gender"]["bias_mean"] == pytest.approx(0.5)
    assert [warning.name for warning in warnings_after(pd.DataFrame(), even)] == ["bias_persists"]


def test_fewer_faces_alone_are_no_change_of_bias():
    """All six ways to lose faces of a fair prompt: at 4 of 16 images a fair model's bias is larger."""
    men = {"original": [(8, 16)] * 12, "method": [(2, 4), (1, 4), (3, 4), (2, 4), (2, 4), (1, 4)] * 2}
    found = measured(records(men))["paired"]["gender"]
    ways = [abs(2 * k - 4) / 4 * comb(8, k) * comb(8, 4 - k) / comb(16, 4) for k in range(5)]
    biases = [0, 0.5, 0.5, 0, 0, 0.5] * 2
    assert found["difference"] == pytest.approx(fmean(biases) - sum(ways))
    assert found["p_value"] > 0.05


@pytest.mark.parametrize("target", [(0.5, 0.5), UNEVEN])
def test_the_test_errs_as_often_as_it_says_where_the_method_loses_faces(target):
    """1,000 pairs of runs of one model on target; the method shows a face in half of its 16 images."""
    rng, runs, prompts = np.random.default_rng(0), 1000, 30
    hits, uncorrected = 0, 0
    for _ in range(runs):
        seen = np.full(prompts, 16), rng.binomial(16, 0.5, prompts).clip(1)
        sides = [rng.multinomial(each, target) for each in seen]
        hits += (
            _bias_test(*(Summary(target=target, per_prompt=by_prompt(side)) for side in sides)).p_value
            <= 0.05
        )
        values = [dict(enumerate(prompt_biases(side, target))) for side in sides]
        uncorrected += paired_permutation_test(*values)["p_value"] <= 0.05
    print(f"{target}: {hits / runs:.3f}, each at its own number of images {uncorrected / runs:.3f}")
    assert 0.03 <= hits / runs <= 0.07
    assert uncorrected / runs > 0.3


def by_prompt(counts):
    return [
        PromptSummary.model_construct(
            prompt_id=str(k), counts=dict(zip(CLASSES["gender"], row.tolist(), strict=True))
        )
        for k, row in enumerate(counts)
    ]


def test_the_gaming_gap_is_measured_from_the_target_too():
    """The teacher sees even shares, the judge the target: from there the teacher's bias is the larger one."""
    metrics = measured(records(on_target(), teacher=8), UNEVEN, trained=True)
    assert metrics["gaming_gap"]["gender"]["value"] == pytest.approx(0.5)
