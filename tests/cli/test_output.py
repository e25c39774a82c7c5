"""What is printed is what was measured: brackets in names and paths are no markup."""

import copy

import pytest

from fairbench.cli.main import main
from fairbench.cli.output import print_table
from fairbench.cli.result import print_result
from fairbench.report.live import live_progress
from fairbench.store.results import Metrics
from tests.report.test_tables import METRICS
from tests.runs.stored_runs import men, store_run

NAME, BROKEN = "biased_dft[rank=8]", "[/x]"


def test_the_table_of_a_run_shows_options_and_paths_as_they_are(capsys, tmp_path):
    metrics = copy.deepcopy(METRICS) | {"method": NAME, "model": f"mine{BROKEN}", "notes": [f"of {BROKEN}"]}
    print_result(Metrics.model_validate(metrics), tmp_path / "[bold]run", done_before=False)
    out = capsys.readouterr().out
    assert f"{NAME} (emergent) · mine{BROKEN}" in out and f"of {BROKEN}" in out and "[bold]run" in out


def test_a_comparison_and_its_paths(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    place = store_run(tmp_path / BROKEN[:2] / "x]", {"original": men(0.9), NAME: men(0.5)})
    with pytest.raises(SystemExit) as left:
        main(["compare", str(place.relative_to(tmp_path))])
    out = capsys.readouterr().out
    assert left.value.code == 0 and out.count(f"B {NAME}") == 3 and BROKEN in out


def test_lists_and_progress(capsys):
    print_table((f"a{BROKEN}",), [(NAME,)])
    with live_progress() as tell:
        tell(f"swap{BROKEN}", 1, 2)
    captured = capsys.readouterr()
    assert f"a{BROKEN}" in captured.out and NAME in captured.out and f"swap{BROKEN}" in captured.err
