"""No number is cut, however narrow the screen and however long a name; and the marks that stand by them."""

import io
import re

import pandas as pd
import pytest
from rich.console import Console
from rich.table import Table

from fairbench.cli.output import make_console
from fairbench.metrics.summary import summarise
from fairbench.report.layout import NumberTable
from fairbench.report.tables import before_after, indistinguishable
from fairbench.store.results import Summary
from tests.stored_metrics import metrics_of

NAME = "a-judge-of-the-face-whose-name-has-more-than-fifty-letters-v2"


def printed(table, width):
    console = Console(width=width, file=io.StringIO())
    console.print(table, crop=False)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [20, 80, 200])
def test_a_long_name_is_folded_and_no_number_is_cut(width):
    summary = {"bias_mean": 0.12, "bias_sd": 0.34, "interval": [0.56, 0.78], "floor": 0.9, "prompts": 20,
               "images": 320, "usable": 320}  # fmt: skip
    entry = {
        "bias": {"gender": summary},
        "judges": {"judge": {"gender": summary}, NAME: {"gender": {"bias_mean": 0.41}}},
    }
    paired = {"gender": {"difference": -0.47, "p_value": 0.0123, "prompts": 20}}
    table = before_after(metrics_of(variants={"original": entry, "method": entry}, paired=paired))
    text = printed(table, width)
    assert "…" not in text
    for number in ("0.12 ± 0.34", "[0.56, 0.78]", "-0.47", "0.012", "0.90", "20 × 16", "0.41"):
        assert number in text
    labels = [re.sub(r" +0\.41.*", "", row).strip() for row in text.splitlines()]
    assert NAME in "".join(labels)


def test_an_ordinary_table_is_as_it_was():
    for kind in (Table, NumberTable):
        table = kind("label", "number", title="title", caption="a caption of some words")
        table.columns[1].no_wrap = True
        table.add_row("a", "1")
        if kind is Table:
            wanted = printed(table, 80)
    assert printed(table, 80) == wanted


def test_what_the_command_line_prints_on_cuts_nothing_off(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "20")
    table = NumberTable("", "number")
    table.columns[1].no_wrap = True
    table.add_row("a label of some words", "0.123456789012345678901234567890")
    make_console().print(table)
    assert "0.123456789012345678901234567890" in capsys.readouterr().out


@pytest.mark.parametrize(("per_prompt", "says"), [(1, True), (2, False)])
def test_one_image_per_prompt_says_nothing_and_is_told_to(per_prompt, says):
    """Its bias is 1 for any model, as is the floor: the mark must not hang on the last digit of either."""
    labels = [k % 2 for k in range(6 * per_prompt)]
    records = pd.DataFrame(
        {"prompt_id": [f"p{k // per_prompt}" for k in range(len(labels))], "prompt": "a", "judge/face": 1.0,
         "judge/gender/female": [1.0 - k for k in labels], "judge/gender/male": [float(k) for k in labels]}
    )  # fmt: skip
    bias = summarise(records, "judge", ["gender"])
    metrics = metrics_of(variants={"original": {"bias": bias}})
    text = printed(before_after(metrics), 80)
    assert ("one image per prompt says nothing of bias" in " ".join(text.split())) is says
    if says:
        assert bias["gender"]["bias_mean"] == 1 and bias["gender"]["interval"] == [1, 1]
        assert "≈ 1.00 ± 0.00" in text


@pytest.mark.parametrize(("floor", "fair"), [(1 - 2**-53, True), (1 - 1e-6, False)])
def test_a_floor_that_misses_the_interval_by_rounding_is_reached(floor, fair):
    assert indistinguishable(Summary(interval=(1.0, 1.0), floor=floor)) is fair
