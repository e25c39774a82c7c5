"""The scripts of results/: what they choose and what they write."""

import importlib.util
import itertools
import json
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from fairbench.runs.matrix import load_matrix
from fairbench.storage import read_json
from fairbench.store.results import Metrics, Provenance
from tests.stored_metrics import metrics_of

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

    store(directory, {"original": variant(0.8, 0.9), method: variant(gap, recognised)})


def store(directory, variants):
    """Write what was measured of the variants, and that it is all."""
    directory.mkdir(parents=True)
    (directory / "metrics.json").write_text(json.dumps(metrics_of(variants=variants).to_json()))
    (directory / "status.json").write_text('{"status": "finished"}')


def stored(directory):
    """Return as much of a run as `store` wrote."""
    return SimpleNamespace(metrics=Metrics.of(read_json(directory / "metrics.json"), directory))


def prompt(name="p", images=8, counts=None, bias=None):
    """Return what is measured of one prompt."""
    found = {"prompt_id": name, "prompt": name, "images": images, "usable": images, "bounds": (0, 1)}
    return found | {"counts": counts or {}, "bias": bias}


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
    monkeypatch.setattr(search, "load_run", stored)
    search.main(tmp_path / "runs")
    table = pd.read_csv(tmp_path / "search.csv")
    assert table["keeps"].tolist() == [True, True, False, False, False]  # 0.95 x 0.9 = 0.855
    assert table["chosen"].tolist() == [False, True, False, False, True]
    chosen = load_matrix(tmp_path / "matrix.yaml", {})
    options = {cell.config.method: cell.config.method_options for cell in chosen}
    assert options == {"draft_k": {"last": 2}, "uce": {"step_size": 1}, "hard_prompt": {}}


@pytest.mark.slow
def test_the_tables_are_written_between_their_marks(monkeypatch, tmp_path):
    from fairbench.runs.matrix import run_cells

    table = script("table", monkeypatch, tmp_path)
    matrix = {
        "methods": ["hard_prompt", "concept_algebra", "ethical_intervention"],
        "attributes": ["gender", "gender,race"],
        "settings": {"images_per_prompt": 4, "test_prompts": 6, "steps": 4},
    }
    (tmp_path / "matrix.yaml").write_text(json.dumps(matrix))
    cells = load_matrix(tmp_path / "matrix.yaml", {})
    from contextlib import nullcontext

    outcomes = run_cells(cells, tmp_path / "runs", progress=lambda cell: nullcontext(lambda *_: None))
    assert {outcome.state for outcome in outcomes} == {"done", "skipped"}
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- tables -->\nold\n<!-- end of tables -->\nafter\n")
    obeyed = tmp_path / "explicit" / cells[0].name
    shares = {
        name: {"mean": share, "interval": None, "images": 4, "prompts": 1}
        for name, share in {"original": 1.0, "hard_prompt": 0.25}.items()
    }
    store(obeyed, {name: {"obedience": {"gender": share}} for name, share in shares.items()})
    load = table.load_run
    monkeypatch.setattr(table, "load_run", lambda place: (stored if place == obeyed else load)(place))
    table.main(tmp_path / "runs", tmp_path / "explicit")
    written = readme.read_text()
    assert written.startswith("before\n") and written.endswith("\nafter\n") and "old" not in written
    rows = [line.split(" | ") for line in written.splitlines() if "concept_algebra |" in line]
    assert [row[-2] for row in rows] == ["16", "40"]  # 4 steps of 2 + 2 and 2 + 8 rows
    assert "\nNot measured for gender: ethical_intervention.\n" in written
    lines = [line.split(" | ") for line in written.splitlines()]
    column = next(line for line in lines if line[0] == "| method").index("obeys")
    assert next(line for line in lines if line[0] == "| hard_prompt")[column] == "0.25"
    assert next(line for line in lines if line[0] == "| concept_algebra")[column] == "–"
    csv = pd.read_csv(tmp_path / "gender.csv")
    assert {"bias_sd", "kid", "unet_rows_per_image", "training_seconds", "clip_t"} <= set(csv)
    assert set(csv["attribute"]) == {"gender", "race", "age"}
    assert (tmp_path / "gender.png").is_file() and (tmp_path / "gender-race.png").is_file()


def test_the_finetuning_table_averages_over_seeds_and_tests_over_prompts(monkeypatch, tmp_path):
    table = script("table", monkeypatch, tmp_path, PORTRAITS.parent / "finetuning")
    (tmp_path / "README.md").write_text("a\n<!-- tables -->\nold\n<!-- end of tables -->\nb\n")
    (tmp_path / "memory.csv").write_text("method,peak_gb\nnaive_dft,1.25\n")
    prompts = [f"p{number}" for number in range(8)]

    def variant(biases):
        rows = [prompt(name, bias=bias) for name, bias in zip(prompts, biases, strict=True)]
        mean = sum(biases) / len(biases)
        quality = {key: {"mean": 0.5} for key in table.QUALITY}
        return {"bias": {"gender": {"bias_mean": mean, "floor": 0.2, "debiased": mean, "per_prompt": rows}},
                "quality": quality}  # fmt: skip

    def run_at(place):
        method, seed = place.name.split("-")
        options = {"updates": 6} | ({"mode": "raw"} if method == "biased_dft" else {})
        bias = {"biased_dft": 0.1 + 0.2 * int(seed), "drtune": 0.6, "naive_dft": 0.7}[method]
        return SimpleNamespace(
            config={"method": method, "method_options": options, "seed": int(seed)},
            provenance=Provenance(unet_rows={"training": 10}, seconds={"finetuning": 1.0}),
            metrics=metrics_of(variants={"original": variant([0.8] * 8), method: variant([bias] * 8)},
                               gaming_gap={"gender": {"value": 0.0, "interval": None}}),
        )  # fmt: skip

    monkeypatch.setattr(table, "load_run", run_at)
    longer = itertools.product((0, 1, 2), ("biased_dft", "drtune"))
    for seed, name in [*longer, (0, "naive_dft"), (1, "naive_dft")]:
        (tmp_path / "runs" / f"{name}-{seed}").mkdir(parents=True)
        (tmp_path / "runs" / f"{name}-{seed}" / "status.json").touch()
    table.main(tmp_path / "runs")
    written = (tmp_path / "README.md").read_text()
    rows = [line.split(" | ") for line in written.splitlines() if line.startswith("| ")]
    raw, drtune, naive, original, _, _, both = rows[2:]
    assert [row[0][2:] for row in (raw, drtune, naive, original)] == [
        "biased_dft[mode=raw]", "drtune", "naive_dft", "original",
    ]  # fmt: skip
    # every row from the seeds that all have; what has more of them is compared on all
    assert raw[2:4] == ["0.200 (0.20–0.20)", "0.10 0.30"]
    assert (raw[-1], naive[-1]) == ("– |", "1.25 |")
    # t = .3 / (.2 / sqrt 3) = 2.598 with two degrees of freedom
    assert both == [
        "| biased_dft[mode=raw] to drtune", "+0.500 +0.300 +0.100", "+0.300", "0.008", "0.122 |",
    ]  # fmt: skip
    pairs = pd.read_csv(tmp_path / "pairs.csv").set_index(["first", "second"])
    assert pairs.loc[("biased_dft[mode=raw]", "original"), "difference"] == pytest.approx(0.6)
    assert pairs["p_value"].tolist() == pytest.approx([2 / 2**8] * 6, abs=1e-4)
    assert pairs["p_holm"].tolist() == pytest.approx([12 / 2**8] * 6, abs=1e-4)
    assert len(pd.read_csv(tmp_path / "runs.csv")) == 11


def test_the_joint_table_shows_the_original_once_and_every_run(monkeypatch, tmp_path):
    table = script("table", monkeypatch, tmp_path, PORTRAITS.parent / "joint")
    (tmp_path / "README.md").write_text("<!-- tables -->\n<!-- end of tables -->\n")

    def run(olds, attributes):
        def variant(gap, olds):
            rows = [prompt(counts={"young": 8 - old, "old": old}) for old in olds]
            summary = {"bias_mean": gap, "bias_sd": 0.1, "interval": [gap - 0.1, gap + 0.1], "floor": 0.07}
            bias = dict.fromkeys([*table.BIASES, "age"], summary | {"per_prompt": rows})
            return {"bias": bias, "quality": {"recognised": {"mean": gap}}}

        variants = {"original": variant(0.8, [0, 4]), "biased_dft": variant(0.3, olds)}
        return SimpleNamespace(
            config={"method": "biased_dft", "attributes": attributes}, metrics=metrics_of(variants=variants)
        )

    table.main([run([2, 2], ["gender", "race"]), run([1, 3], ["gender", "race", "age"])])
    lines = (tmp_path / "README.md").read_text().splitlines()
    assert lines[3].startswith("| original | 0.80 ± 0.10 (0.70–0.90) |")
    assert [line.split(" | ")[4] for line in lines[3:6]] == [
        "0.250 ± 0.354",
        "0.250 ± 0.000",
        "0.250 ± 0.177",
    ]
    assert lines[5].startswith("| biased_dft: gender x race x age | 0.30")
    assert lines[7].startswith("2 occupations, 8 images each. Noise floors: gender 0.070")
    assert pd.read_csv(tmp_path / "joint.csv")["recognised"].tolist() == [0.8, 0.3, 0.3]
