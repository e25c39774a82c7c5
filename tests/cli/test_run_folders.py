"""Directories of runs that may not be written to, or where somebody has put something."""

import os
import shutil

import pytest
import yaml

from fairbench.store import layout
from tests.cli.command import call
from tests.cli.damages import commands
from tests.runs.finished import done

__all__ = ["done"]


@pytest.fixture
def lines(small, done, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(done[0], run)
    return run, commands(tmp_path, run, done[0], small)


def test_a_finished_run_that_may_not_be_written_to_is_already_done(lines, capsys, monkeypatch):
    run, typed = lines
    monkeypatch.setattr(layout, "_writable", lambda path: False)  # root may write anywhere
    code, out, err = call(capsys, *typed["run"])
    assert code == 0 and "already done" in out, err
    code, out, err = call(capsys, *typed["run"], "--fresh")
    assert (code, out) == (2, "") and "no permission to write" in err
    (run / "status.json").unlink()
    assert "no permission to write" in call(capsys, *typed["run"])[2]


@pytest.mark.parametrize("as_json", [(), ("--json",)])
def test_a_comparison_that_cannot_be_saved_is_printed_first(lines, capsys, tmp_path, as_json):
    run, _ = lines
    (tmp_path / "file").touch()
    code, out, err = call(capsys, "compare", run, "--out", tmp_path / "file" / "comparison", *as_json)
    assert code == 2 and "nudge" in out and err.count("\n") == 1 and "something stands in its place" in err


def test_fresh_takes_a_link_away_and_nothing_else_writes_through_one(lines, capsys, tmp_path):
    run, typed = lines
    mine = tmp_path / "mine"
    (run / "images").rename(mine)
    (run / "images").symlink_to(mine)
    before = {path: path.read_bytes() for path in mine.rglob("*.png")}
    assert call(capsys, *typed["run"])[0] == 0  # done: its images are not looked at
    (run / "status.json").unlink()
    code, _, err = call(capsys, *typed["run"])
    assert code == 2 and "images: is a link, and nothing is written through one" in err
    (run / "images").unlink()
    (run / "images").symlink_to(mine)
    assert call(capsys, *typed["run"], "--fresh")[0] == 0
    assert not (run / "images").is_symlink()
    assert {path: path.read_bytes() for path in mine.rglob("*.png")} == before


def test_planted_names_are_not_written_through(small, capsys, tmp_path):
    """Names that images in the making and the log of a training once had for all to foresee."""
    mine, run = tmp_path / "mine", tmp_path / "run"
    mine.write_text("mine")
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump(small.settings(images_per_prompt=1)))
    (run / "images/original/cook").mkdir(parents=True)
    (run / "images/original/cook/.0.png.tmp").symlink_to(mine)
    (run / "provenance.json").write_text("{}")
    command = ("run", "--config", tmp_path / "settings.yaml", "--out", run)
    (run / "training").mkdir()
    (run / "training/log.jsonl").symlink_to(mine)
    code, _, err = call(capsys, *command)
    assert code == 2 and "log.jsonl: is a link" in err
    (run / "training/log.jsonl").unlink()
    assert call(capsys, *command)[0] == 0
    assert mine.read_text() == "mine" and not [*run.rglob(".*.tmp")]


@pytest.mark.parametrize("arguments", [("run", "--out"), ("compare", "x", "--out"), ("export", "x", "--to")])
def test_an_empty_path_is_not_where_one_is(fairbench, arguments):
    assert "is empty: name a path" in fairbench.refused(*arguments, "")


def test_a_run_whose_directory_is_removed_says_so_and_leaves_nothing(small, tmp_path):
    from fairbench.errors import UserError
    from fairbench.runs.run import run

    def remove(stage, done, total):
        if (stage, done) == ("finetuning", 1):
            shutil.rmtree(tmp_path / "run")

    with pytest.raises(UserError, match="was removed while it was written to"):
        run(small.config(), tmp_path / "run", progress=remove)
    assert not os.path.lexists(tmp_path / "run")
