"""A comparison as a table for people and as a flat one: every number in its row, and a dash for none."""

import io

import numpy as np
import pytest
from rich.console import Console

from fairbench.comparison.compare import compare
from fairbench.report.comparison import comparison_frame, cost, lay_out
from fairbench.store.load import load_run
from fairbench.store.provenance import Cost
from tests.runs.stored_runs import TRAINING, men, store_run

SKEWED = np.linspace(0.02, 0.98, 30)


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    """An original that is skewed, a fair method with a teacher, and one that draws the classes."""
    place = tmp_path_factory.mktemp("compared")
    options = {"training": TRAINING, "errors": {"judge-train": 0.8}, "noise": 5}
    fair = store_run(place / "fair", {"original": men(SKEWED), "fair": men(0.5)}, **options)
    drawn = store_run(
        place / "drawn", {"original": men(SKEWED), "drawn": men(0.7)}, draw_class="drawn", noise=1
    )
    return compare([load_run(fair), load_run(drawn)])


def printed(comparison):
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(lay_out(comparison))
    return console.export_text()


def cells(text, start, number=0):
    """The cells of one of the rows that begin so."""
    rows = [line.split() for line in text.splitlines() if line.startswith(start)]
    return rows[number][len(start.split()) :]


@pytest.mark.parametrize(
    ("spent", "shown"),
    [
        (Cost(39.6, None, None), ("40", "–")),
        (Cost(None, 1234, 59.6), ("–", "60 s, 1k")),
        (Cost(4, 61_500, 0.4), ("4", "0 s, 62k")),
        (Cost(4, 0, 5.0), ("4", "5 s")),
    ],
)
def test_a_cost_is_written_in_rows_and_seconds(spent, shown):
    assert cost(spent) == shown


def test_the_table_says_what_differs_then_every_run_from_the_least_biased_on(comparison):
    text = printed(comparison)
    assert text.startswith("! draw classes differ: emergent (A B), drawn (C)")
    assert "judged by judge-a · 30 prompts, paired" in text
    assert cells(text, "B fair")[:6] == ["emergent", "16", "0", "–", "60", "s"]
    bias = text.split("gaming gap")[1].splitlines()
    assert [line[0] for line in bias if line[:2] in ("A ", "B ", "C ")][:3] == ["B", "C", "A"]


def test_the_numbers_of_a_row_are_those_of_the_comparison(comparison):
    text = printed(comparison)
    rows = {row.label: row for row in comparison.attributes["gender"]}
    for label, name in (("A", "original"), ("B", "fair")):
        row, found = rows[label], cells(text, f"{label} {name}", 1)
        low, high = row.interval
        mark = ["≈"] if row.fair else []
        assert found[: len(mark) + 3] == [
            *mark, f"{row.bias_mean:.2f}", f"{low:.2f}–{high:.2f}", f"{row.floor:.2f}"
        ]  # fmt: skip
    assert rows["B"].fair and not rows["A"].fair
    gap = rows["B"].gaming_gap
    assert cells(text, "B fair", 1)[-2:] == [
        f"{gap.value:+.2f}",
        f"{gap.interval[0]:.2f}–{gap.interval[1]:.2f}",
    ]
    assert cells(text, "A original", 1)[-2:] == ["–", "–"]


def test_quality_within_its_margin_is_marked_against_the_first_run(comparison):
    text = printed(comparison)
    recognised, first = comparison.quality["recognised"], cells(text, "A original", 2)
    assert first == [f"{rows[0].mean:.3f}" for rows in comparison.quality.values()]
    mark = "= " if recognised[1].change.unchanged else ""
    assert " ".join(cells(text, "B fair", 2)).startswith(f"{mark}{recognised[1].mean:.3f}")
    assert cells(text, "margin") == ["±0.05", "±0.02", "±0.01"]


def test_the_panel_says_where_leaving_a_judge_out_changes_the_order(comparison):
    panel = comparison.panel["gender"]
    assert f"gender: 3 judges agree with Krippendorff's alpha {panel.agreement.value:.2f}" in printed(
        comparison
    )
    assert "without judge-b: the same" in printed(comparison)
    turned = panel.model_copy(update={"without": panel.without | {"judge-b": ["C", "B", "A"]}})
    other = comparison.model_copy(update={"panel": {"gender": turned}})
    assert "without judge-b: C B A" in printed(other)


def test_the_flat_table_has_a_row_for_every_run_with_all_that_is_known_of_it(comparison):
    table = comparison_frame(comparison).set_index("label")
    rows = {row.label: row for row in comparison.attributes["gender"]}
    assert list(table.index) == ["A", "B", "C"] and set(table["attribute"]) == {"gender"}
    assert list(table["name"]) == ["original", "fair", "drawn"]
    assert list(table["draw_class"]) == ["emergent", "emergent", "drawn"]
    assert table["beats"].to_dict() == {label: " ".join(row.beats) for label, row in rows.items()}
    for key in ("interval", "rank_interval"):
        assert key not in table
        ends = list(zip(table[f"{key}_low"], table[f"{key}_high"], strict=True))
        assert ends == [tuple(getattr(row, key)) for row in rows.values()]
    assert table["gaming_gap"].notna().tolist() == [False, True, False]
    assert table.loc["B", "gaming_gap_low"] == rows["B"].gaming_gap.interval[0]
    assert table["clip_t"].tolist() == [each.mean for each in comparison.quality["clip_t"]]
    assert table["clip_t_unchanged"].isna().tolist() == [True, False, False]
    assert table["training_seconds"].isna().tolist() == [True, False, False]
