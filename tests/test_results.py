"""The scripts of results/: what they choose and what they write."""

import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from fairbench.runs.matrix import load_matrix

PORTRAITS = Path(__file__).parents[1] / "results" / "portraits"


def script(name, monkeypatch, place, folder=PORTRAITS):
    """Load a script of results/ that writes to ``place``."""
    spec = importlib.util.spec_from_file_location(f"results_{name}", folder / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "HERE", place)
    return module


def finish(directory, method, gap, recognised):
    """Store as much of a run as the search reads."""

    def variant(gap, recognised):
        bias = {"gender": {"bias_mean": gap, "debiased": gap}}
        return {"bias": bias, "quality": {"recognised": {"mean": recognised}, "clip_i": {"mean": 0.9}}}

    directory.mkdir(parents=True)
    variants = {"original": variant(0.8, 0.9), method: variant(gap, recognised)}
    (directory / "metrics.json").write_text(json.dumps({"variants": variants}))


def test_every_method_tries_the_same_number_of_settings_its_own_first():
    cells = load_matrix(PORTRAITS / "search.yaml", {})
    assert {cell.config.split for cell in cells} == {"validation"}
    tried = pd.Series([cell.config.method for cell in cells]).value_counts()
    fixed = {"original", "ethical_intervention", "hard_prompt", "hard_prompt_negative"}
    assert set(tried[tried == 1].index) == fixed and set(tried.drop([*fixed])) == {4}
    firsts = {cell.config.method: cell.config.method_options for cell in reversed(cells)}
    assert all(set(options) <= {"updates"} for options in firsts.values())


def test_the_search_takes_the_least_gap_that_keeps_the_occupation(monkeypatch, tmp_path):
    search = script("search", monkeypatch, tmp_path)
    methods = ["draft_k[updates=3]", "draft_k[last=2,updates=3]", "draft_k[last=3,updates=3]", "uce",
               "uce[step_size=1]", "hard_prompt"]  # fmt: skip
    (tmp_path / "search.yaml").write_text(
        f"methods: {json.dumps(methods)}\nsettings: {{split: validation}}\n"
    )
    cells = load_matrix(tmp_path / "search.yaml", {})
    found = [("draft_k", 0.5, 0.9), ("draft_k", 0.3, 0.86), ("draft_k", 0.1, 0.85), ("uce", 0.2, 0.5),
             ("uce", 0.3, 0.6)]  # fmt: skip
    for cell, numbers in zip(cells, found, strict=False):
        finish(tmp_path / "runs" / cell.name, *numbers)
    search.main(tmp_path / "runs")
    table = pd.read_csv(tmp_path / "search.csv")
    assert table["keeps"].tolist() == [True, True, False, False, False]  # 0.95 x 0.9 = 0.855
    assert table["chosen"].tolist() == [False, True, False, False, True]
    chosen = load_matrix(tmp_path / "matrix.yaml", {})
    options = {cell.config.method: cell.config.method_options for cell in chosen}
    assert options == {"draft_k": {"last": 2}, "uce": {"step_size": 1}, "hard_prompt": {}}


@pytest.mark.slow
def test_the_tables_are_written_between_their_marks(monkeypatch, tmp_path):
    from fairbench.report.matrix import cells_frame
    from fairbench.runs.matrix import Matrix, make_cells, run_cells

    table = script("table", monkeypatch, tmp_path)
    settings = {"images_per_prompt": 4, "test_prompts": 6, "steps": 4}
    names = ("hard_prompt", "concept_algebra", "ethical_intervention")
    cells = make_cells(Matrix(methods=names, attributes=("gender", "gender,race"), settings=settings), {})
    from contextlib import nullcontext

    outcomes = run_cells(cells, tmp_path / "runs", progress=lambda cell: nullcontext(lambda *_: None))
    assert {outcome.state for outcome in outcomes} == {"done", "skipped"}
    (tmp_path / "runs" / "matrix.json").write_text(json.dumps(cells_frame(outcomes)))
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- tables -->\nold\n<!-- end of tables -->\nafter\n")
    table.main(tmp_path / "runs")
    written = readme.read_text()
    assert written.startswith("before\n") and written.endswith("\nafter\n") and "old" not in written
    rows = [line.split(" | ") for line in written.splitlines() if "concept_algebra |" in line]
    assert [row[-2] for row in rows] == ["16", "40"]  # 4 steps of 2 + 2 and 2 + 8 rows
    assert "ethical_intervention-portraits-occupations-gender-s0: ethical_intervention needs" in written
    csv = pd.read_csv(tmp_path / "gender.csv")
    assert {"bias_sd", "kid", "unet_rows_per_image", "training_seconds", "clip_t"} <= set(csv)
    assert set(csv["attribute"]) == {"gender", "race", "age"}
    assert (tmp_path / "gender.png").is_file() and (tmp_path / "gender-race.png").is_file()


def test_the_finetuning_table_averages_over_seeds_and_tests_over_prompts(monkeypatch, tmp_path):
    spec = importlib.util.spec_from_file_location(
        "finetuning_table", PORTRAITS.parent / "finetuning" / "table.py"
    )
    table = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(table)
    monkeypatch.setattr(table, "HERE", tmp_path)
    (tmp_path / "README.md").write_text("a\n<!-- tables -->\nold\n<!-- end of tables -->\nb\n")
    prompts = [f"p{number}" for number in range(8)]

    def variant(biases):
        rows = [{"prompt_id": name, "bias": bias} for name, bias in zip(prompts, biases, strict=True)]
        mean = sum(biases) / len(biases)
        quality = {key: {"mean": 0.5} for key in table.QUALITY}
        return {"bias": {"gender": {"bias_mean": mean, "floor": 0.2, "debiased": mean, "per_prompt": rows}},
                "quality": quality}  # fmt: skip

    def stored(place):
        method, seed = place.name.split("-")
        options = {"updates": 6} | ({"mode": "raw"} if method == "biased_dft" else {})
        biases = {"biased_dft": [0.1 + 0.2 * int(seed)] * 8, "naive_dft": [0.7] * 8}[method]
        return SimpleNamespace(
            config={"method": method, "method_options": options, "seed": int(seed)},
            provenance={"unet_rows": {"training": 10}, "seconds": {"finetuning": 1.0}},
            metrics={"variants": {"original": variant([0.8] * 8), method: variant(biases)},
                     "gaming_gap": {"gender": {"value": 0.0}}},
        )  # fmt: skip

    monkeypatch.setattr(table, "load_run", stored)
    for name in ("biased_dft-0", "biased_dft-1", "naive_dft-0", "naive_dft-1"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "status.json").touch()
    table.main(tmp_path / "runs")
    written = (tmp_path / "README.md").read_text()
    rows = [line for line in written.splitlines() if line.startswith("| ")][2:]
    assert [row.split(" | ")[0] for row in rows] == ["| biased_dft[mode=raw]", "| naive_dft", "| original"]
    assert "0.200 (0.20–0.20) | 0.10 0.30" in rows[0] and "Seeds: 2" in written
    pairs = pd.read_csv(tmp_path / "pairs.csv").set_index(["first", "second"])
    assert pairs.loc[("biased_dft[mode=raw]", "original"), "difference"] == pytest.approx(0.6)
    assert pairs["p_value"].tolist() == pytest.approx([2 / 2**8] * 3, abs=1e-4)
    assert pairs["p_holm"].tolist() == pytest.approx([6 / 2**8] * 3, abs=1e-4)
    assert len(pd.read_csv(tmp_path / "runs.csv")) == 6
