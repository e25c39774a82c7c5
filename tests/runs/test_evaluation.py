"""The metrics of records whose chances are known: what a run set out for is what it is measured from."""

import pandas as pd
import pytest

from fairbench.finetuning.monitors import warnings_after
from fairbench.runs.evaluation import measure
from fairbench.runs.measurement import JudgeUsed, Measurement

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
    return measure(
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


def test_the_gaming_gap_is_measured_from_the_target_too():
    """The teacher sees even shares, the judge the target: from there the teacher's bias is the larger one."""
    metrics = measured(records(on_target(), teacher=8), UNEVEN, trained=True)
    assert metrics["gaming_gap"]["gender"] == pytest.approx(0.5)
