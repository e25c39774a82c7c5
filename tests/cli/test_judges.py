"""``fairbench judges check``, and a judge file wherever a judge is named."""

import json
from functools import partial

import numpy as np
import pytest
from PIL import Image

from fairbench.attributes import SCALES
from fairbench.judges import load_judge
from fairbench.judges.skin_tone import MONK
from tests.cli import command


@pytest.fixture
def call(capsys):
    return partial(command.call, capsys)


@pytest.fixture
def judge(tmp_path):
    path = tmp_path / "monk.yaml"
    path.write_text("name: monk\nnetworks: [{kind: skin_tone}]\n")
    return path


@pytest.fixture
def swatches(tmp_path):
    """Two swatches of each tone, one of them named one too dark; and one without any skin."""
    for tone, colour in enumerate(MONK, 1):
        for truth in {tone, min(tone + 1, 10)}:
            place = tmp_path / "swatches" / f"monk{truth}"
            place.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (16, 16), f"#{colour}").save(place / f"{tone}.png")
    Image.new("RGB", (16, 16), "blue").save(tmp_path / "swatches" / "monk1" / "blue.png")
    return tmp_path / "swatches"


def expected():
    return np.eye(10, dtype=int) + np.eye(10, k=-1, dtype=int)


def test_it_prints_what_was_taken_for_what(call, judge, swatches):
    code, out, _ = call("judges", "check", judge, "--images", swatches, "--json")
    found = json.loads(out)
    assert code == 0 and (found["images"], found["faces"], found["written"]) == (20, 19, None)
    entry = found["attributes"]["skin_tone"]
    assert entry["confusion"] == expected().tolist() and entry["labels"] == list(SCALES["skin_tone"])
    assert entry["accuracy"] == pytest.approx(10 / 19) and entry["images"] == 19
    assert list(judge.parent.glob("*.json")) == []


def test_write_keeps_the_counts_with_the_judge(call, judge, swatches):
    code, out, _ = call("judges", "check", judge, "--images", swatches, "--write")
    assert code == 0 and "skin_tone: accuracy 0.526 of 19 images" in out and "monk.confusion.json" in out
    assert np.array_equal(load_judge(judge).confusion["skin_tone"], expected())
    code, out, _ = call("show", judge, "--json")
    assert json.loads(out)["confusion"]["skin_tone"] == expected().tolist()


def test_mistakes_are_one_line_and_write_nothing(call, judge, swatches, tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    (tmp_path / "labels.csv").write_text("path,skin_tone\na.png,monk11\n")
    for arguments, message in [
        ((judge, "--images", tmp_path / "nowhere"), "there is no such folder or CSV file"),
        ((judge, "--images", tmp_path / "labels.csv"), "unknown class of skin_tone 'monk11'"),
        (("portraits-evala", "--images", swatches), "did you mean 'portraits-eval-a'"),
        ((tmp_path / "none.yaml", "--images", swatches), "there is no such file"),
    ]:
        code, out, err = call("judges", "check", *arguments, "--write")
        assert (code, out) == (2, "") and message in err and err.count("\n") == 1
    assert list(tmp_path.glob("*.json")) == []


def test_a_run_takes_a_judge_file_as_its_judge(call, judge, tmp_path):
    code, out, err = call(
        *("run", "--method", "original", "--model", "portraits-renderer", "--judge", judge),
        *("--attributes", "skin_tone", "--images-per-prompt", 4, "--test-prompts", 2),
        *("--out", tmp_path / "run", "--json"),
    )
    assert code == 0, err
    metrics = json.loads(out)
    provenance = json.loads((tmp_path / "run" / "provenance.json").read_text())
    assert provenance["sha256"]["judges"] == {"monk": load_judge(judge).sha256}
    summary = metrics["variants"]["original"]["bias"]["skin_tone"]
    assert summary["images"] == 8 and summary["usable"] > 0
    assert summary["floor"] is not None
