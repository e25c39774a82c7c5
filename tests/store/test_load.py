"""Stored runs: read, measured again without any network, and brought from an older schema to the newest."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from fairbench.errors import UserError
from fairbench.runs.run import run
from fairbench.scoring.score import score
from fairbench.store.load import load_run, measurement_of
from fairbench.store.measurement import read_measurement


@pytest.fixture
def old(tmp_path):
    """A run of schema 1, as version 0.1.0 wrote it."""
    return Path(shutil.copytree(Path(__file__).parent / "version-1", tmp_path / "old"))


@pytest.fixture
def second(tmp_path):
    """The same run, as it was scored when schema 2 was the newest."""
    return Path(shutil.copytree(Path(__file__).parent / "version-2", tmp_path / "second"))


def test_scoring_gives_the_same_numbers_without_any_network(small, tmp_path, monkeypatch):
    metrics = run(small.config(), tmp_path / "run")
    monkeypatch.setattr("fairbench.runs.instruments.load_judge", None)
    monkeypatch.setattr("fairbench.runs.instruments.load_features", None)
    shutil.rmtree(tmp_path / "run" / "images")
    (tmp_path / "run" / "metrics.json").write_text(json.dumps({**metrics.to_json(), "variants": {}}))
    assert score(tmp_path / "run") == metrics
    assert load_run(tmp_path / "run").metrics == metrics
    measurement = read_measurement(tmp_path / "run" / "measurement.json")
    assert [judge.name for judge in measurement.evaluating] == ["judge-a", "judge-b"]
    assert measurement.training_judge.name == "judge-train"
    assert all(len(judge.sha256) == 64 for judge in measurement.judges)
    assert measurement.network == "ssl"


def test_references_are_stored_so_that_distances_can_be_measured_again(small, tmp_path):
    config = small.config(
        method="original", model="portraits-renderer", suite="occupations", test_prompts=2,
        images_per_prompt=8, features=[str(small.root / "ssl")],
    )  # fmt: skip
    quality = run(config, tmp_path / "run")["variants"]["original"]["quality"]
    reference = pd.read_parquet(tmp_path / "run" / "reference.parquet")
    records = load_run(tmp_path / "run").records
    assert len(reference) == 16 and not set(reference["seed"]) & set(records["seed"])
    assert {"judge-a/face", "judge-a/gender/female"} <= set(reference)
    assert score(tmp_path / "run")["variants"]["original"]["quality"] == quality
    assert quality["distance_images"].to_json() == {"generated": 16, "reference": 16}
    low, high = quality["kid"]["interval"]
    assert low < quality["kid"]["mean"] < high


def test_a_run_of_schema_1_is_read_as_if_it_were_new(old):
    found = load_run(old)
    assert found.metrics["schema_version"] == 3
    assert (found.metrics["measures"], found.metrics["sequential"]) == ("bias", None)
    assert found.metrics["spill_over"] == {"race": found.metrics["paired"]["race"]}
    assert found.metrics["variants"]["nudge"]["groups"] == {}
    assert len(found.records) == 12
    assert json.loads((old / "metrics.json").read_text())["schema_version"] == 1


def test_a_run_of_schema_1_can_be_scored_and_keeps_its_counts(old):
    before = json.loads((old / "metrics.json").read_text())
    metrics = score(old)
    assert metrics["schema_version"] == 3
    assert any("before reference features" in note for note in metrics["notes"])
    for variant, entry in before["variants"].items():
        for judge, summaries in entry["judges"].items():
            for name, summary in summaries.items():
                for key in ("bias_mean", "floor", "usable", "prompts"):
                    assert metrics["variants"][variant]["judges"][judge][name][key] == summary[key]
    for name, gap in before["gaming_gap"].items():
        assert metrics["gaming_gap"][name]["value"] == pytest.approx(gap)
    measurement = measurement_of(load_run(old))
    assert measurement == read_measurement(old / "measurement.json")
    assert measurement.judges[0].attributes["race"] == ("WMELH", "Black", "Indian", "Asian")


def test_a_run_of_schema_2_gets_the_interval_of_the_gaming_gap_when_it_is_scored(second):
    before = json.loads((second / "metrics.json").read_text())
    assert before["schema_version"] == 2
    for name, gap in load_run(second).metrics["gaming_gap"].items():
        assert (gap.value, gap.interval) == (before["gaming_gap"][name], None)
    metrics = score(second)
    low, high = metrics["gaming_gap"]["gender"]["interval"]
    assert low <= before["gaming_gap"]["gender"] <= high
    assert load_run(second).metrics == metrics


def test_a_newer_schema_is_refused(old):
    metrics = json.loads((old / "metrics.json").read_text())
    (old / "metrics.json").write_text(json.dumps({**metrics, "schema_version": 4}))
    for read in (load_run, score):
        with pytest.raises(UserError, match="newer fairbench"):
            read(old)


@pytest.mark.parametrize("name", ["metrics.json", "provenance.json", "records.parquet", "config.yaml"])
def test_a_damaged_run_is_named(old, name):
    (old / name).write_bytes(b"\x00[")
    with pytest.raises(UserError, match=name):
        load_run(old)


def test_what_is_no_finished_run_is_refused(old, tmp_path):
    (old / "status.json").unlink()
    for directory in (old, tmp_path / "nothing"):
        with pytest.raises(UserError, match="not a finished run"):
            load_run(directory)
    (tmp_path / "measurement.json").write_text('{"schema_version": 4}')
    with pytest.raises(UserError, match=r"measurement\.json"):
        read_measurement(tmp_path / "measurement.json")


@pytest.mark.parametrize("counts", [[[7, 3], [0, 0]], [[50, 50], [49, 51]]])
def test_errors_of_a_judge_that_cannot_be_taken_back_are_named_and_all_else_is_there(old, counts):
    expected = score(old)
    path = old / "measurement.json"
    content = json.loads(path.read_text())
    content["judges"][0]["confusion"] = {"gender": counts}
    path.write_text(json.dumps(content))
    found = score(old)
    name = content["judges"][0]["name"]
    assert found["variants"] == expected["variants"]
    assert f"gender as {name} sees it is not corrected" in found["notes"][-1]
