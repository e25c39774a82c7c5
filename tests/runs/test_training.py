import json

import pandas as pd
import pytest

from fairbench.cli.main import main
from fairbench.runs.run import run
from fairbench.runs.training import TrainingLog, Watch


def rows(count, **columns):
    return [{"update": update, "gap_gender": 0.5, **columns} for update in range(1, count + 1)]


def test_a_warning_is_told_once_and_ends_the_training_only_where_that_is_asked(tmp_path):
    for stop_on, ends in (((), []), (("unstable",), []), (("bias_persists",), list(range(60, 71)))):
        told = []
        log = TrainingLog(tmp_path / f"{len(stop_on)}{stop_on[:1]}.jsonl")
        watch = Watch(log, stop_on, told.append)
        assert [row["update"] for row in rows(70) if watch(row)] == ends
        assert len([line for line in told if line.startswith("bias_persists, since update 60: the")]) == 1
        assert len(log.table()) == 70


def test_an_interrupted_training_is_watched_from_its_beginning(tmp_path):
    told = []
    for row in rows(65):
        TrainingLog(tmp_path / "log.jsonl").append(row)
    watch = Watch(TrainingLog(tmp_path / "log.jsonl"), (), told.append)
    watch({"update": 61, "gap_gender": 0.5})  # updates since the last save are done and logged once more
    assert told == [
        "bias_persists, since update 60: the gender gap of the training images has not fallen: "
        "0.50 at first, 0.50 now"
    ]


def test_a_run_that_is_stopped_finishes_with_what_was_trained_and_says_so(small, tmp_path):
    told = []
    config = small.config(updates=80, stop_on=("bias_persists",))
    metrics = run(config, tmp_path / "run", warn=told.append)
    assert told[-1] == "finetuning ends at update 60: --stop-on bias_persists"
    assert len(pd.read_parquet(tmp_path / "run" / "training.parquet")) == 60
    assert "finetuning ended at update 60 of 80: --stop-on bias_persists" in metrics["notes"]
    assert (
        json.loads((tmp_path / "run" / "metrics.json").read_text())["warnings"]
        == metrics.to_json()["warnings"]
    )
    assert run(config, tmp_path / "run") == metrics
    whole = run(small.config(updates=80), tmp_path / "whole")
    assert len(pd.read_parquet(tmp_path / "whole" / "training.parquet")) == 80
    assert not any("ended" in note for note in whole["notes"])


def test_warnings_go_to_standard_error_and_into_the_table(small, tmp_path, capsys):
    settings = tmp_path / "settings.json"  # JSON is YAML
    settings.write_text(json.dumps(small.settings(updates=61)))
    with pytest.raises(SystemExit):
        main(["run", "--config", str(settings), "--out", str(tmp_path / "run")])
    out, err = capsys.readouterr()
    assert "fairbench: warning: bias_persists, since update 60" in err
    assert "warning: bias_persists: the gender bias of the test prompts" in " ".join(out.split())
