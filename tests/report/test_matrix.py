"""The table of a matrix: a row for every run and attribute, and a picture where methods can be compared."""

import io
import json

import pytest
from rich.console import Console

from fairbench.report.matrix import draw_all, lay_out, matrix_rows
from fairbench.runs.matrix import Matrix, Outcome, make_cells
from tests.stored_metrics import metrics_of


@pytest.fixture
def outcome(tmp_path):
    """What became of a cell of a matrix; ``metrics`` are those of `metrics_of`, none if it was not done."""

    def make(method, attributes="gender", state="done", reason="", **metrics):
        [cell] = make_cells(Matrix(methods=(method,), attributes=(attributes,)), {})
        place = tmp_path / cell.name
        done = metrics_of(method=method, attributes=attributes.split(","), **metrics) if metrics else None
        return Outcome(cell, place, state, done, reason)

    return make


def variant(bias, floor=0.2, clip_i=None, attribute="gender"):
    quality = {} if clip_i is None else {"clip_i": {"mean": clip_i}}
    return {"bias": {attribute: {"bias_mean": bias, "floor": floor}}, "quality": quality}


def test_a_row_holds_bias_before_and_after_and_what_the_method_cost(outcome):
    made = outcome("uce", variants={"original": variant(0.75, 0.1), "uce": variant(0.25, clip_i=0.875)})
    made.directory.mkdir()
    spent = {"unet_rows": {"per_image": {"original": 40, "uce": 60}}, "seconds": {"finetuning": 12.5}}
    (made.directory / "provenance.json").write_text(json.dumps(spent))
    [row] = matrix_rows([made])
    assert row.to_json() == {
        "run": "uce-portraits-occupations-gender-s0", "state": "done", "reason": None, "attribute": "gender",
        "draw": "emergent", "original": 0.75, "debiased": 0.25, "floor": 0.2, "CLIP-I": 0.875,
        "U-Net rows": 60.0, "training s": 12.5,
    }  # fmt: skip


def test_several_attributes_have_a_row_each_and_one_for_all_of_them(outcome):
    both = variant(0.5) | {"bias": {"gender x race": {"bias_mean": 0.125}, "race": {"bias_mean": 0.25}}}
    rows = matrix_rows([outcome("original", "gender,race", variants={"original": both})])
    assert [(row.attribute, row.original, row.debiased) for row in rows] == [
        ("gender", None, None), ("race", 0.25, None), ("gender x race", 0.125, None),
    ]  # fmt: skip
    assert {(row.unet_rows, row.training_seconds) for row in rows} == {(None, None)}


def test_what_was_not_done_is_one_row_that_says_why(outcome):
    rows = matrix_rows(
        [
            outcome("uce", "gender,race", "skipped", "too small"),
            outcome("uce", "race", "failed", "ValueError: 1"),
        ]
    )
    assert [(row.state, row.reason, row.attribute, row.original) for row in rows] == [
        ("skipped", "too small", "gender x race", None), ("failed", "ValueError: 1", "race", None),
    ]  # fmt: skip


def test_numbers_are_rounded_and_what_is_missing_is_a_dash(outcome):
    done = outcome("uce", variants={"original": variant(0.754), "uce": variant(0.251, clip_i=0.8765)})
    console = Console(width=150, record=True, file=io.StringIO())
    console.print(lay_out(matrix_rows([done, outcome("uce", state="skipped", reason="x")])))
    first, second = (line.split() for line in console.export_text().splitlines() if line.startswith("uce"))
    assert first[1:] == ["done", "gender", "emergent", "0.75", "0.25", "0.20", "0.88", "–", "–"]
    assert second[1:] == ["skipped", "gender", *["–"] * 7]


def test_a_picture_is_drawn_of_every_set_that_more_than_one_method_balanced(outcome, tmp_path):
    def done(method, attributes="gender", **changes):
        name = attributes.replace(",", " x ")
        sides = {"original": variant(0.75, attribute=name), method: variant(0.5, 0.1, 0.9, name)}
        return outcome(method, attributes, variants=sides | changes)

    alone = done("uce", "race")
    assert draw_all([done("uce"), alone, outcome("uce", state="failed", reason="x")], tmp_path) == []
    bare = outcome("original", variants={"original": variant(0.75)})
    assert draw_all([done("uce"), bare], tmp_path) == []
    pairs = [done(method, names) for names in ("gender", "gender,race") for method in ("uce", "debias_vl")]
    drawn = draw_all([*pairs, alone], tmp_path)
    assert [path.name for path in drawn] == ["pareto_gender.png", "pareto_gender_x_race.png"]
    assert all(path.is_file() for path in drawn)
    obedient = [done("uce", original={}), done("debias_vl", original={})]
    assert draw_all(obedient, tmp_path) == []
