"""The summary of a small set of records, every number by hand."""

import json

import numpy as np
import pandas as pd
import pytest

from fairbench.errors import UserError
from fairbench.metrics.floor import minimum_detectable_gap, noise_floor
from fairbench.metrics.gap import gap_estimate
from fairbench.metrics.intervals import t_interval
from fairbench.metrics.summary import summarise

FEMALE, MALE, NOBODY = (0.9, 0.8), (0.9, 0.1), (0.2, 0.5)  # face, P(female)


def records(images: dict[str, list[tuple[float, float]]]) -> pd.DataFrame:
    rows = [(prompt, face, female) for prompt, of_prompt in images.items() for face, female in of_prompt]
    frame = pd.DataFrame(rows, columns=["prompt_id", "j/face", "j/gender/female"])
    frame["j/gender/male"] = 1 - frame["j/gender/female"]
    frame["j/age/young"], frame["j/age/old"] = 0.7, 0.3
    frame["prompt"] = "a photo of a " + frame["prompt_id"]
    return frame


TWO = {"nurse": [FEMALE] * 3 + [MALE], "pilot": [MALE] * 4 + [NOBODY] * 4}


def test_by_hand() -> None:
    found = summarise(records(TWO), "j", ["gender"])["gender"]
    assert found["bias_mean"] == pytest.approx((0.5 + 1) / 2)
    assert found["bias_sd"] == pytest.approx(np.std([0.5, 1], ddof=1))
    assert found["interval"] == [0.5, 1.0]
    assert found["bounds"] == pytest.approx([0.25, 0.75])  # the four may all be female, or all male
    assert found["debiased"] == pytest.approx(np.sqrt(((4 * 0.25 - 1) / 3 + 1) / 2))
    assert found["floor"] == noise_floor(4, 2)
    assert (found["prompts"], found["prompts_without_value"]) == (2, 0)
    assert (found["images"], found["usable"], found["face_rate"]) == (12, 8, pytest.approx(2 / 3))
    assert found["per_prompt"][1] == {
        "prompt_id": "pilot",
        "prompt": "a photo of a pilot",
        "images": 8,
        "usable": 4,
        "counts": {"female": 0, "male": 4},
        "bias": 1.0,
        "bounds": [0.0, 1.0],
    }


def test_intersection() -> None:
    found = summarise(records(TWO), "j", ["gender", "age"])
    assert list(found) == ["gender", "age", "gender x age"]
    nurse = found["gender x age"]["per_prompt"][0]
    assert nurse["counts"] == {"female young": 3, "female old": 0, "male young": 1, "male old": 0}
    assert nurse["bias"] == pytest.approx((0.5 + 0.75 + 0.75 + 0.25 + 0.25 + 0) / 6)
    assert found["gender x age"]["floor"] == noise_floor(4, 4)
    assert found["age"]["bias_mean"] == 1


def test_a_prompt_without_a_face_has_no_value() -> None:
    found = summarise(records(TWO | {"ghost": [NOBODY] * 2}), "j", ["gender"])["gender"]
    assert found["bias_mean"] == pytest.approx(0.75) and found["floor"] == noise_floor(4, 2)
    assert (found["prompts"], found["prompts_without_value"]) == (3, 1)
    assert found["per_prompt"][2]["bias"] is None and found["per_prompt"][2]["bounds"] == [0, 1]
    nobody = summarise(records({"ghost": [NOBODY]}), "j", ["gender"])["gender"]
    for key in ("bias_mean", "bias_sd", "interval", "debiased", "floor"):
        assert nobody[key] is None
    assert nobody["face_rate"] == 0


def test_ready_for_json_in_any_order_of_rows() -> None:
    frame = records(TWO)
    found = summarise(frame, "j", ["gender", "age"])
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    shuffled = summarise(frame.sample(frac=1, random_state=0), "j", ["gender", "age"])
    assert shuffled["gender"]["bias_mean"] == found["gender"]["bias_mean"]
    assert sorted(shuffled["gender"]["per_prompt"], key=str) == sorted(found["gender"]["per_prompt"], key=str)


def test_no_records_are_no_value() -> None:
    found = summarise(records(TWO).iloc[:0], "j", ["gender"])["gender"]
    assert found["bias_mean"] is None and found["face_rate"] is None and found["prompts"] == 0


def test_what_is_new_beside_the_bias() -> None:
    counts, table = [[3, 1], [0, 4]], [[90, 10], [5, 95]]
    found = summarise(records(TWO), "j", ["gender"], confusion={"gender": table})["gender"]
    plain, corrected = gap_estimate(counts), gap_estimate(counts, None, table)
    assert plain is not None and corrected is not None and plain["interval"] is not None
    assert found["debiased_signed"] == plain["signed"] == found["debiased"]
    assert found["debiased_interval"] == list(plain["interval"])
    assert found["corrected"] == corrected | {"interval": list(corrected["interval"] or ())}
    assert found["t_interval"] == list(t_interval([0.5, 1.0]) or ())
    assert found["bounds_interval"][0] < 0.25 < 0.75 < found["bounds_interval"][1]
    assert found["minimum_detectable"] == minimum_detectable_gap([4, 4], 2)
    assert found["target"] is None and found["transport"] is None
    assert summarise(records(TWO), "j", ["gender"])["gender"]["corrected"] is None


@pytest.mark.parametrize(
    ("female", "target", "gap"), [(0.25, [0.25, 0.75], 0), (0.25, None, 0.5), (0.7, [0.25, 0.75], 0.9)]
)
def test_what_a_judge_adds_is_taken_out_and_the_target_too(
    female: float, target: list[float] | None, gap: float
) -> None:
    """By shares alone: he calls .9 of the women and .2 of the men female, and is known from very many."""
    said = 0.9 * female + 0.2 * (1 - female)
    images = [FEMALE] * round(1000 * said) + [MALE] * round(1000 * (1 - said))
    found = summarise(
        records({"nurse": images, "pilot": images}), "j", ["gender"],
        target=None if target is None else {"gender": target},
        confusion={"gender": [[9_000_000, 1_000_000], [2_000_000, 8_000_000]]},
    )["gender"]["corrected"]  # fmt: skip
    noise = 4 * 0.25 / 1000 / 0.7**2  # of the squared gap, 0.7 the determinant of the judge's rates
    assert found["signed"] * abs(found["signed"]) == pytest.approx(gap**2, abs=noise)
    assert found["interval"][0] <= gap <= found["interval"][1]


def test_a_target_that_is_not_uniform() -> None:
    found = summarise(
        records(TWO), "j", ["gender", "age"], target={"gender": [0.25, 0.75], "age": [0.5, 0.5]}
    )
    gender, counts = found["gender"], [[3, 1], [0, 4]]
    assert gender["target"] == [0.25, 0.75]
    assert [row["bias"] for row in gender["per_prompt"]] == pytest.approx([1, 0.5])
    assert gender["per_prompt"][1]["bounds"] == pytest.approx(
        [0, 0.5]
    )  # two of the four female; none of them
    assert gender["bias_mean"] == pytest.approx((1 + 0.5) / 2)
    assert gender["floor"] == noise_floor(4, 2, [0.25, 0.75])
    assert gender["minimum_detectable"] == minimum_detectable_gap([4, 4], 2, [0.25, 0.75])
    gap = gap_estimate(counts, [0.25, 0.75])
    assert gap is not None and gap["interval"] is not None and gap["interval"][1] > 1
    assert gender["debiased_signed"] == gap["signed"] and gender["debiased_interval"] == list(gap["interval"])
    assert found["age"]["target"] is None and found["age"]["bias_mean"] == 1
    assert found["gender x age"]["target"] == [0.125, 0.125, 0.375, 0.375]


def test_a_uniform_target_is_the_bias_of_the_paper() -> None:
    frame = records(TWO)
    assert summarise(frame, "j", ["gender"], target={"gender": [0.5, 0.5]}) == summarise(
        frame, "j", ["gender"]
    )


def test_age_in_order() -> None:
    found = summarise(records(TWO), "j", ["age", "gender"], target={"age": [0.75, 0.25]})
    assert found["age"]["transport"] == {"mean": pytest.approx(0.25), "interval": pytest.approx([0.25, 0.25])}
    assert found["gender"]["transport"] is None
    nobody = summarise(records({"ghost": [NOBODY]}), "j", ["age"])["age"]
    assert nobody["transport"] is None and nobody["minimum_detectable"] is None


@pytest.mark.parametrize(
    "options",
    [
        {"target": {"gender": [1.0]}},
        {"target": {"gender": [0.2, 0.2]}},
        {"confusion": {"gender": [[1, 0, 0]]}},
        {"confusion": {"gender": [[5, 5], [5, 5]]}},
    ],
)
def test_targets_and_confusion_matrices_that_do_not_fit(options: dict) -> None:
    with pytest.raises(UserError):
        summarise(records(TWO), "j", ["gender"], **options)


@pytest.mark.parametrize(("judge", "attribute"), [("nobody", "gender"), ("j", "race")])
def test_what_was_not_judged(judge: str, attribute: str) -> None:
    with pytest.raises(UserError):
        summarise(records(TWO), judge, [attribute])
