"""Damaged files of a run: every command that reads one says so in one line, and the others do their work."""

import json
import shutil

import pytest

from tests.cli.command import call
from tests.cli.damages import DAMAGES, EVERYWHERE, READ_BY, commands, folder, newer, other_types, truncated
from tests.runs.finished import done

__all__ = ["done"]

INTERRUPTED = (
    "config.yaml", "provenance.json", "records.parquet", "measurement.json", "features.safetensors",
    "training.parquet", "adapter/intervention.json", "adapter/tensors.safetensors",
    "images/original/cook/0.png", "training/log.jsonl",
)  # fmt: skip

WRITTEN_BY = {"metrics.json": "score", "status.json": "run"}
"""Who makes a damaged file anew, unless a folder or something of a newer version is in its place."""


@pytest.fixture
def lines(small, done, tmp_path):
    """A copy of a finished run, and the command lines that read it."""
    run = tmp_path / "run"
    shutil.copytree(done[0], run)
    return run, commands(tmp_path, run, done[0], small)


def refused(capsys, line):
    """Whether a command refuses in one line what it reads; it may do its work, but not fail otherwise."""
    code, out, err = call(capsys, *line)
    said = [text for text in err.splitlines() if text.startswith("fairbench: ") and "warning: " not in text]
    assert (code, len(said)) in ((0, 0), (2, 1)), err
    assert code == 0 or out == "", out
    return code == 2


def as_an_older_version_left_it(run):
    """Take out what tells how the files were made, so that each has to be read to be found damaged."""
    (run / "manifest.json").unlink()
    noted = json.loads((run / "provenance.json").read_text())
    del noted["config_sha256"]
    (run / "provenance.json").write_text(json.dumps(noted))


@pytest.mark.parametrize("file", READ_BY)
def test_a_truncated_file_is_refused_by_those_who_read_it(lines, capsys, file):
    run, typed = lines
    truncated(run / file)
    for name in READ_BY[file]:
        assert refused(capsys, typed[name]), name


@pytest.mark.exhaustive
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("file", READ_BY)
def test_whatever_the_damage_it_is_refused_by_those_who_read_the_file_and_by_no_other(
    lines, capsys, file, damage
):
    run, typed = lines
    damage(run / file)
    damaged = shutil.copytree(run, run.with_name("damaged"))
    kept = damage is folder or (file == "metrics.json" and damage in (newer, other_types))
    readers = {*READ_BY[file], *([WRITTEN_BY[file]] if kept and file in WRITTEN_BY else [])}
    for name in EVERYWHERE:
        shutil.rmtree(run)  # a command may have mended it
        shutil.copytree(damaged, run)
        assert refused(capsys, typed[name]) == (name in readers), name


@pytest.mark.exhaustive
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("file", [file for file in READ_BY if file != "manifest.json"])
def test_of_an_older_run_a_damaged_file_is_one_line_or_does_no_harm(lines, capsys, file, damage):
    run, typed = lines
    as_an_older_version_left_it(run)
    damage(run / file)
    for line in typed.values():
        refused(capsys, line)


def interrupt(run):
    """Make of a finished run one that was killed before it was scored, with a log of its training."""
    for name in ("status.json", "manifest.json", "metrics.json"):
        (run / name).unlink()
    (run / "training").mkdir()
    (run / "training" / "log.jsonl").write_text('\n{"update": 1, "loss": 1.0}')


@pytest.mark.parametrize("file", ["config.yaml", "records.parquet", "features.safetensors"])
def test_a_truncated_file_of_an_interrupted_run_is_one_line_or_does_no_harm(lines, capsys, file):
    run, typed = lines
    interrupt(run)
    truncated(run / file)
    if file == "config.yaml":  # which the same command writes anew
        assert not refused(capsys, typed["run"])
    for name in EVERYWHERE if file != "config.yaml" else ():
        assert refused(capsys, typed[name]), name


@pytest.mark.exhaustive
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("file", INTERRUPTED)
def test_any_damage_of_an_interrupted_run_is_one_line_or_does_no_harm(lines, capsys, file, damage):
    run, typed = lines
    interrupt(run)
    if file == "training/log.jsonl":
        shutil.rmtree(run / "adapter")
        (run / "records.parquet").unlink()
    damage(run / file)
    if not refused(capsys, typed["run"]):
        assert not refused(capsys, typed["show"])
