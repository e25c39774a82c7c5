"""The lines of a run at work: on standard error alone, and nothing before there is something to show."""

import pytest
from rich.table import Table

from fairbench.report.live import in_notebook, live_progress


def test_every_stage_has_its_line_on_standard_error(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    with live_progress() as tell:
        tell("original images", 0, 6)
        tell("original images", 6, 6)
        tell("judging", 2, 12)
    out, err = capsys.readouterr()
    lines = {line[:16].strip(): line for line in err.splitlines() if line.strip()}
    assert out == "" and set(lines) == {"original images", "judging"}
    assert "6/6" in lines["original images"] and "2/12" in lines["judging"]


def test_a_total_that_becomes_known_later_is_shown(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    with live_progress() as tell:
        tell("narrowing", 0, 100)
        tell("narrowing", 30, 40)
    assert "30/40" in capsys.readouterr().err


def test_an_error_before_the_first_stage_stands_alone(capsys):
    with pytest.raises(ZeroDivisionError), live_progress():
        raise ZeroDivisionError
    assert capsys.readouterr() == ("", "")


def test_an_error_amid_a_stage_leaves_the_terminal_as_it_was(capsys):
    with pytest.raises(ZeroDivisionError), live_progress() as tell:
        tell("judging", 1, 2)
        raise ZeroDivisionError
    assert "1/2" in capsys.readouterr().err
    with live_progress() as tell:  # which could not begin while another one is shown
        tell("judging", 2, 2)
    assert "2/2" in capsys.readouterr().err


def test_who_asks_for_quiet_is_told_nothing(capsys):
    with live_progress(quiet=True) as tell:
        tell("judging", 1, 2)
    assert capsys.readouterr() == ("", "")


def test_a_notebook_is_shown_a_table_as_text_and_as_html_that_keeps_its_columns(capsys):
    table = Table("run", "a < b")
    table.add_row("nudge[size=2]", "0.5")
    shown = in_notebook(table)
    assert set(shown) == {"text/plain", "text/html"} and capsys.readouterr() == ("", "")
    assert "a < b" in shown["text/plain"] and "a &lt; b" in shown["text/html"]
    assert shown["text/html"].startswith('<pre style="white-space: pre')
