"""The types of every JSON file: what a file says is kept to the last key, and read under its name."""

import json
from pathlib import Path

import pytest

from fairbench.errors import UserError
from fairbench.store.load import load_run
from fairbench.store.results import (
    Distance,
    InputHashes,
    MatrixRow,
    Mean,
    Metrics,
    Provenance,
    Quality,
    Result,
    Summary,
)
from tests.stored_metrics import metrics_of

VERSIONS = sorted(Path(__file__).parent.glob("version-*"))


def through_json(result):
    """Write a result and read it again."""
    return type(result).of(json.loads(json.dumps(result.to_json())), Path("again.json"))


@pytest.mark.parametrize("place", VERSIONS, ids=lambda place: place.name)
def test_a_run_of_every_version_goes_to_json_and_back(place):
    found = load_run(place)
    for result in (found.metrics, found.provenance):
        again = through_json(result)
        assert again == result and again.to_json() == result.to_json()
    assert found.metrics.schema_version == 3
    stored = json.loads((place / "metrics.json").read_text())
    for name, variant in stored["variants"].items():
        assert found.metrics.to_json()["variants"][name].items() >= variant.items()
    assert found.provenance.to_json() == json.loads((place / "provenance.json").read_text())


def test_a_real_run_is_read_as_its_files_say(done):
    place, metrics, _ = done
    found = load_run(place)
    assert found.metrics == metrics == through_json(metrics)
    for name, result in (("metrics.json", found.metrics), ("provenance.json", found.provenance)):
        assert result.to_json() == json.loads((place / name).read_text())


def test_keys_of_another_version_are_kept_at_any_depth():
    quality = {"fid": 1.5, "later": {"a": [1]}, "kid": {"mean": None, "later": 2}}
    found = metrics_of(variants={"original": {"quality": quality}}, later="x")
    assert found.to_json()["variants"]["original"]["quality"] == quality
    assert found["later"] == found.later == "x"
    assert found.variants["original"]["quality"]["kid"]["later"] == 2
    assert through_json(found) == found


def walk(result):
    """Yield a result and every result in it."""
    yield result
    for value in dict(result).values():
        parts = [value]
        while parts:
            part = parts.pop()
            if isinstance(part, Result):
                yield from walk(part)
            elif isinstance(part, dict | list | tuple):
                parts += part.values() if isinstance(part, dict) else part


def test_a_key_is_its_attribute_and_nothing_else_is_a_key(done):
    results = [*walk(done[1])]
    assert {type(result).__name__ for result in results} >= {
        "Metrics",
        "Summary",
        "Quality",
        "Group",
        "Estimate",
    }
    for result in results:
        for key in type(result).model_fields:
            assert result[key] is getattr(result, key)
        for key in ("biases", "to_json", "model_fields", ""):
            with pytest.raises(KeyError, match=repr(key)):
                result[key]
    with pytest.raises(KeyError, match="'value'"):  # a method of it, not a number
        Quality()["value"]


def test_only_what_was_set_is_written_and_null_is_not_nothing():
    assert Quality().to_json() == {} and Quality(fid=None).to_json() == {"fid": None}
    assert Summary(interval=[0.25, 0.75]).to_json() == {"interval": [0.25, 0.75]}
    assert Provenance(sha256=InputHashes(suite="s")).to_json() == {"sha256": {"suite": "s"}}


def test_a_row_of_a_matrix_is_written_under_the_names_of_its_file():
    row = {
        "run": "a",
        "state": "done",
        "reason": None,
        "attribute": "gender",
        "CLIP-I": 0.9,
        "training s": 60.0,
    }
    found = MatrixRow.of(row, Path("matrix.json"))
    assert found.to_json() == row
    assert (found.clip_i, found["training_seconds"], found.unet_rows) == (0.9, 60.0, None)
    assert MatrixRow(**{key: row[key] for key in list(row)[:4]}, clip_i=0.9, training_seconds=60.0) == found


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"schema_version": "three"}, "schema_version"),
        (
            {"variants": {"original": {"bias": {"gender": {"interval": [0.1]}}}}},
            "variants.original.bias.gender.interval",
        ),
        ({"gaming_gap": {"gender": 0.5}}, "gaming_gap.gender"),
        ({"attributes": None}, "attributes"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_damaged_content_is_one_line_that_names_file_and_key(changes, key):
    content = metrics_of().to_json() | changes
    with pytest.raises(UserError) as caught:
        Metrics.of(content, Path("run") / "metrics.json")
    assert str(caught.value).startswith(f"run/metrics.json: {key}") and "\n" not in str(caught.value)


def test_what_is_missing_is_named_and_nothing_can_be_changed():
    with pytest.raises(UserError, match="variants: Field required"):
        Metrics.of(
            {key: value for key, value in metrics_of().to_json().items() if key != "variants"}, Path("m")
        )
    with pytest.raises(ValueError, match="frozen"):
        metrics_of().method = "another"


def test_the_method_and_what_it_balances_are_told_from_what_is_measured_besides():
    found = metrics_of(variants={"original": {}, "nudge[size=2]": {}}, attributes=["gender", "race"])
    assert (found.variant, found.balanced) == ("nudge[size=2]", ["gender", "race", "gender x race"])
    alone = metrics_of(variants={"original": {}})
    assert (alone.variant, alone.balanced) == (None, ["gender"])


def test_a_measure_is_a_number_or_the_mean_of_what_has_one():
    found = Quality(fid=1.5, clip_i=Mean(mean=0.9), kid=Distance(mean=0.1, interval=(0.05, 0.2)))
    values = [found.value(name) for name in ("fid", "clip_i", "kid", "dino")]
    assert values == [1.5, 0.9, 0.1, None]
    assert [found.interval(name) for name in ("fid", "clip_i", "kid", "dino")] == [
        None,
        None,
        (0.05, 0.2),
        None,
    ]
