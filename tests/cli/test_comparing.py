"""`compare`, `check` and `plan` as they are typed: what they print, save, and refuse."""

import json

import numpy as np
import pandas as pd
import pytest

from tests.cli.command import call
from tests.runs.stored_runs import TRAINING, men, store_run

SKEWED = np.linspace(0.02, 0.98, 30)


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    store_run(tmp_path / "fair", {"original": men(SKEWED), "fair": men(0.5)}, training=TRAINING, noise=5)
    store_run(tmp_path / "drawn", {"original": men(SKEWED), "prefix": men(0.6)}, draw_class="drawn", noise=1)
    store_run(tmp_path / "other", {"original": men(SKEWED), "fair": men(0.5)}, suite="hobbies", model="m")
    return tmp_path


def test_compare_prints_the_table_and_saves_what_it_says(place, capsys):
    code, out, err = call(capsys, "compare", "fair", "drawn", "--out", "results/mine")
    assert code == 0, err
    assert "! draw classes differ: emergent (A B), drawn (C)" in out
    line = next(line for line in out.splitlines() if line.startswith("B fair") and "≈" in line)
    assert "A" in line.split() and "C prefix" in out
    assert "Krippendorff" in out and "without judge-b: the same" in out
    saved = json.loads((place / "results" / "mine.json").read_text())
    assert saved["schema_version"] == 1
    table = pd.read_csv(place / "results" / "mine.csv")
    assert list(table["label"]) == ["A", "B", "C"] and set(table["schema_version"]) == {1}
    assert list(table["bias_mean"]) == [row["bias_mean"] for row in saved["attributes"]["gender"]]
    assert list(table["fair"]) == [False, True, False]
    assert table["gaming_gap_low"].notna().tolist() == [False, True, False]
    assert json.loads(call(capsys, "compare", "fair", "--json")[1])["runs"][1]["name"] == "fair"


def test_a_matrix_stands_for_its_finished_runs(place, capsys):
    matrix = place / "m"
    matrix.mkdir()
    for name in ("fair", "drawn"):
        (place / name).rename(matrix / name)
    (matrix / "matrix.json").write_text("[]")
    (matrix / "pareto_gender.png").touch()
    (matrix / "unfinished").mkdir()
    code, whole, err = call(capsys, "compare", "m", "--json")
    assert code == 0, err
    assert sorted(run["name"] for run in json.loads(whole)["runs"]) == ["fair", "original", "prefix"]
    files = [str(path.relative_to(place)) for path in sorted(matrix.iterdir()) if path.name != "unfinished"]
    assert call(capsys, "compare", *files, "--json")[1] == whole
    assert "unfinished: is not a finished run" in call(capsys, "compare", "m/unfinished")[2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("fair", "other"), "different suites"),
        (("fair", "missing"), "missing: is not a finished run"),
        (("fair", "--margin", "clip_t"), "write it like clip_t=0.01"),
        (("fair", "--margin", "clip_t=-1"), "above zero"),
        (("fair", "--margin", "clpi_t=0.1"), "did you mean 'clip_t'"),
        (("fair", "--attributes", "race"), "has not judged race"),
        ((), "Missing argument"),
    ],
)
def test_compare_refuses_in_one_line_and_saves_nothing(place, capsys, arguments, message):
    before = set(place.iterdir())
    code, out, err = call(capsys, "compare", *arguments)
    assert (code, out) == (2, "") and message in err and err.count("\n") == 1
    assert set(place.iterdir()) == before


def test_unpaired_runs_are_compared_when_that_is_asked_for(place, capsys):
    code, out, _ = call(capsys, "compare", "fair", "other", "--unpaired")
    assert code == 0
    assert "! suites differ: jobs (A C), hobbies (B D)" in out and "! models differ" in out
    assert "! unpaired:" in out


def test_check_passes_noise_and_fails_a_worse_run(place, capsys):
    assert call(capsys, "check", "fair", "--save", "reference.json")[0] == 0
    code, out, _ = call(capsys, "check", "fair", "--against", "reference.json")
    assert code == 0 and [line[:2] for line in out.splitlines()] == ["ok"] * 4
    store_run(place / "worse", {"original": men(SKEWED), "fair": men(SKEWED)}, noise=2)
    code, out, _ = call(capsys, "check", "worse", "--against", "reference.json")
    assert code == 1 and "WORSE gender bias" in out
    assert call(capsys, "check", "worse", "--against", "fair", "--tolerance", "0.6")[0] == 0


def test_check_fails_a_run_that_measures_less(place, capsys):
    store_run(place / "less", {"original": men(SKEWED), "fair": men(0.5)})
    records = pd.read_parquet(place / "less" / "records.parquet")
    records.drop(columns="clip_t").to_parquet(place / "less" / "records.parquet")
    code, out, _ = call(capsys, "check", "less", "--against", "fair")
    assert code == 1 and "LACKS clip_t" in out and "not measured; 0.300 in the reference" in out
    assert "! clip_t: not in the reference" in call(capsys, "check", "fair", "--against", "less")[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("fair",), "give either --against"),
        (("fair", "--against", "fair", "--save", "x.json"), "give either --against"),
        (("fair", "--against", "x.json"), "x.json: there is no such file"),
        (("nowhere", "--save", "x.json"), "is not a finished run"),
        (("fair", "--against", "drawn", "--tolerance", "-1"), "--tolerance"),
    ],
)
def test_check_refuses_in_one_line(place, capsys, arguments, message):
    before = set(place.iterdir())
    code, out, err = call(capsys, "check", *arguments)
    assert (code, out) == (2, "") and message in err and err.count("\n") == 1
    assert set(place.iterdir()) == before


def test_plan_knows_no_minutes_without_a_pilot_and_measures_them_with_one(place, capsys):
    code, out, _ = call(capsys, "plan", "--detect", "0.1")
    assert code == 0 and "unknown" in out and "each equally likely" in out
    found = json.loads(call(capsys, "plan", "--detect", "0.1", "--pilot", "fair", "--json")[1])
    design = next(design for design in found["designs"] if design["prompts"] == 30)
    seconds = 18 / (2 * 30 * 16)  # of images and judging, over the images of both variants
    assert design["minutes"] == pytest.approx(design["images"] * seconds / 60)
    assert found["simulated"]["power"] == pytest.approx(0.8, abs=0.1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--detect", "0.9"), "cannot be: the mean gap is 0.50"),
        (("--detect", "0"), "cannot be"),
        (("--detect", "0.1", "--power", "1"), "--power"),
        (("--detect", "0.1", "--attribute", "sex"), "unknown attribute"),
        (("--detect", "0.1", "--pilot", "nowhere"), "is not a finished run"),
        ((), "--detect"),
    ],
)
def test_plan_refuses_in_one_line(place, capsys, arguments, message):
    code, out, err = call(capsys, "plan", *arguments)
    assert (code, out) == (2, "") and message in err and err.count("\n") == 1
