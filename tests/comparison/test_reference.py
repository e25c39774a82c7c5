"""What a run is checked against: taken from a run, written, read again, and refused where it is damaged."""

import json

import pytest

from fairbench.comparison.reference import load_reference, reference_of, save_reference
from fairbench.errors import UserError
from tests.comparison.runs_by_hand import labelled, stored_run
from tests.comparison.runs_of_one_method import stored
from tests.runs.stored_runs import JUDGES

__all__ = ["stored"]


def test_a_reference_survives_being_written(stored, tmp_path):
    reference = reference_of(stored(faces=0.8))
    save_reference(tmp_path / "made" / "reference.json", reference)
    assert load_reference(tmp_path / "made" / "reference.json") == reference
    lines = (tmp_path / "made" / "reference.json").read_text().splitlines()
    assert sum(line.startswith('  "job-') for line in lines) == len(reference.prompts) == 30


def test_a_reference_counts_the_images_of_the_method(stored):
    run = stored(0.0)
    reference = reference_of(run)
    assert reference.method == "method"
    assert {prompt.counts["gender"] for prompt in reference.prompts.values()} == {(16, 0)}
    assert reference.prompts["job-3"].quality["face_rate"] == 1


def test_another_judge_is_refused(stored):
    reference = reference_of(stored())
    other = stored(judges={name: "z" * 64 for name in JUDGES})
    with pytest.raises(UserError, match="not evaluated by the judge of the reference"):
        reference_of(other, reference.judge_sha256)
    second = reference_of(stored(judges=dict(reversed(JUDGES.items()))), reference.judge_sha256)
    assert second.judge == "judge-a"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 2}, "newer fairbench"),
        ({"schema_version": "one"}, "schema_version"),
        ({"counts": 1}, "unknown key 'counts'"),
        ({"classes": {"gender": ["female", "male", "x"]}}, "one count for each class"),
        ({"judge": None}, "judge: "),
        ({"prompts": {"job-0": {"counts": {"gender": [-1, 2]}}}}, "greater than or equal to 0"),
    ],
)
def test_a_damaged_reference_is_refused(stored, tmp_path, change, message):
    path = tmp_path / "reference.json"
    save_reference(path, reference_of(stored()))
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UserError, match=message):
        load_reference(path)


@pytest.mark.parametrize(
    ("content", "message"), [(None, "no such file"), ("{", "not a reference"), ("[]", "is not a JSON object")]
)
def test_no_reference_at_all_is_refused(tmp_path, content, message):
    path = tmp_path / "reference.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=message):
        load_reference(path)


def test_a_reference_by_hand():
    """One prompt of three images, of which the second shows no face, and one without any."""
    genders, ages = ["female", None, "male"], ["old", None, "old"]
    records = labelled({"cook": {"judge": genders}, "maid": {"judge": [None]}})
    aged = labelled({"cook": {"judge": ages}, "maid": {"judge": [None]}}, "original", "age", ("young", "old"))
    records = records.join(aged[["judge/age/young", "judge/age/old"]]).assign(clip_t=[0.1, 0.2, 0.3, None])
    run = stored_run(
        records, config={"seed": 5}, method="original", attributes=["gender", "age"],
        target={"gender": (0.25, 0.75)}, evaluation_judges=["judge"],
    )  # fmt: skip
    found = reference_of(run)
    assert (found.method, found.seed, found.judge, found.target) == (
        "original", 5, "judge", {"gender": (0.25, 0.75)}
    )  # fmt: skip
    assert found.classes["gender x age"] == ("female young", "female old", "male young", "male old")
    assert found.prompts["cook"].counts == {"gender": (1, 1), "age": (0, 2), "gender x age": (0, 1, 0, 1)}
    assert found.prompts["cook"].quality == {"face_rate": round(2 / 3, 6), "clip_t": 0.2}
    assert found.prompts["maid"].counts["gender"] == (0, 0)
    assert found.prompts["maid"].quality == {"face_rate": 0, "clip_t": None}
