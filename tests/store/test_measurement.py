"""What measuring must know besides the records: there and back, who may judge, and what is refused."""

import json
from pathlib import Path

import pytest

from fairbench.errors import UserError
from fairbench.store.measurement import JudgeUsed, Measurement, read_measurement

LEAST = {
    "method": "nudge", "draw_class": "emergent", "model": "sd", "suite": "jobs", "attributes": ["gender"],
    "target": {"gender": [0.25, 0.75]},
    "judges": [
        {"name": "teacher", "sha256": "t", "trained": True, "attributes": {"gender": ["female", "male"]}},
        {"name": "first", "sha256": "a", "attributes": {}},
        {"name": "second", "sha256": "b", "attributes": {}, "confusion": {"gender": [[9, 1], [2, 8]]}},
    ],
}  # fmt: skip


def written(tmp_path, **changes):
    path = tmp_path / "measurement.json"
    path.write_text(json.dumps(LEAST | changes))
    return path


def test_what_is_written_is_read_and_written_again_alike(tmp_path):
    found = read_measurement(written(tmp_path))
    assert (found.schema_version, found.measures, found.target) == (3, "bias", {"gender": (0.25, 0.75)})
    assert found.judges[2].confusion == {"gender": ((9, 1), (2, 8))}
    again = tmp_path / "again.json"
    again.write_text(json.dumps(found.model_dump(mode="json")))
    assert read_measurement(again) == found
    old = Path(__file__).parent / "version-2" / "measurement.json"
    assert (
        read_measurement(old).model_dump(mode="json").items()
        >= {"schema_version": 2, "network": "ssl"}.items()
    )


def test_the_judge_that_the_method_learnt_from_is_none_of_those_that_count(tmp_path):
    found = read_measurement(written(tmp_path))
    assert [judge.name for judge in found.evaluating] == ["first", "second"]
    assert found.training_judge.name == "teacher"
    untrained = read_measurement(written(tmp_path, judges=LEAST["judges"][1:]))
    assert untrained.training_judge is None and len(untrained.evaluating) == 2


@pytest.mark.parametrize(
    ("mine", "theirs", "copy"),
    [
        ({"sha256": "a"}, {"sha256": "a"}, True),
        ({"sha256": "a"}, {"sha256": "b"}, False),
        ({"sha256": "a", "weights": ["x", "y"]}, {"sha256": "b", "weights": ["y", "z"]}, True),
        ({"sha256": "a", "weights": ["x"]}, {"sha256": "b", "weights": ["z"]}, False),
        ({"sha256": "a", "weights": ["x"]}, {"sha256": "b"}, False),
    ],
)
def test_a_copy_is_known_by_its_weights_whatever_it_is_called(mine, theirs, copy):
    one, other = JudgeUsed(name="one", attributes={}, **mine), JudgeUsed(name="two", attributes={}, **theirs)
    assert one.is_a_copy_of(other) is other.is_a_copy_of(one) is copy


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"judges": []}, "judges: Tuple should have at least 1 item"),
        ({"schema_version": 4}, "schema_version: "),
        ({"measure": "bias"}, "unknown key 'measure': did you mean 'measures'"),
        ({"target": {"gender": "even"}}, "target.gender: "),
    ],
)
def test_a_measurement_that_cannot_be_used_is_one_line(tmp_path, changes, message):
    path = written(tmp_path, **changes)
    with pytest.raises(UserError) as caught:
        read_measurement(path)
    assert str(caught.value).startswith(f"{path}: ") and message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_missing_or_torn_is_one_line(tmp_path):
    (tmp_path / "torn.json").write_text('{"method": ')
    for name in ("torn.json", "nowhere.json"):
        with pytest.raises(UserError, match=rf"{name}: cannot be read"):
            read_measurement(tmp_path / name)
    assert Measurement.model_validate(LEAST).model_config["frozen"]
