import json
from functools import partial

import pytest
import yaml

from fairbench.plugins.registry import find_method
from tests.cli.command import call


@pytest.fixture
def fairbench(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    return partial(call, capsys)


@pytest.fixture
def matrix(small, tmp_path_factory):
    path = tmp_path_factory.mktemp("matrix") / "table.yaml"
    settings = small.settings(images_per_prompt=2)
    del settings["method"]
    methods = ["nudge", "nudge[size=2]"]
    path.write_text(yaml.safe_dump({"methods": methods, "settings": settings}))
    return path


def test_a_matrix_runs_shows_its_table_and_draws_bias_against_change(fairbench, matrix, tmp_path):
    code, out, err = fairbench("run", "--matrix", matrix)
    assert code == 0, err
    place = tmp_path / "runs" / "table"
    assert "nudge" in out and "done" in out and "1 of 2: nudge" in err
    rows = json.loads((place / "matrix.json").read_text())
    assert [row["state"] for row in rows] == ["done", "done"]
    for row in rows:
        metrics = json.loads((place / row["run"] / "metrics.json").read_text())
        summary = metrics["variants"]["nudge"]["bias"]["gender"]
        assert (row["debiased"], row["floor"]) == (summary["bias_mean"], summary["floor"])
    code, again, _ = fairbench("run", "--matrix", matrix, "--json")
    assert code == 0 and json.loads(again) == rows


def test_a_failing_cell_is_named_and_leaves_with_1(fairbench, matrix, monkeypatch):
    method = find_method("nudge")
    monkeypatch.setattr(method, "fit", lambda self, context: 1 / 0)
    code, out, err = fairbench("run", "--matrix", matrix, "--json")
    assert code == 1
    assert "fairbench: nudge-model-jobs-gender-s0: failed: ZeroDivisionError: division by zero" in err
    assert [row["state"] for row in json.loads(out)] == ["failed", "failed"]


def test_a_suite_that_measures_obedience_has_a_table_without_bias(fairbench, matrix, tmp_path):
    suite = {
        "name": "named", "version": "1", "licence": "MIT", "source": "here", "placeholder": "job",
        "measures": "obedience", "words": {"gender": {"female": ["female"], "male": ["male"]}},
        "templates": ["face of a female {job}", "face of a male {job}"],
        "splits": {"validation": ["dj"], "test": ["cook"]},
    }  # fmt: skip
    (tmp_path / "named.yaml").write_text(yaml.safe_dump(suite))
    table = yaml.safe_load(matrix.read_text())
    table["methods"] = ["original", "hard_prompt"]
    table["settings"] |= {"suite": str(tmp_path / "named.yaml"), "test_prompts": None}
    matrix.write_text(yaml.safe_dump(table))
    code, out, err = fairbench("run", "--matrix", matrix, "--json")
    assert code == 0, err
    assert [(row["state"], row["original"], row["floor"]) for row in json.loads(out)] == [
        ("done", None, None)
    ] * 2


def test_several_methods_are_a_matrix_of_their_own(fairbench, small, tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_text(yaml.safe_dump(small.settings(images_per_prompt=2, seed=3)))
    code, out, err = fairbench(
        "run", "--config", path, "--method", "original", "--method", "nudge[size=2]", "--json"
    )
    assert code == 0, err
    assert [row["run"] for row in json.loads(out)] == [
        "original-model-jobs-gender-s3", "nudge,size=2-model-jobs-gender-s3"
    ]  # fmt: skip
    assert (tmp_path / "runs" / "original-model-jobs-gender-s3" / "status.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--method", "original"), "--method and --matrix: list it under methods in"),
        (("--attributes", "race"), "list it under attributes in"),
        (("--seed", "1"), "list it under seeds in"),
        (("--config", "x.yaml"), "put the settings under settings in"),
        (("--images-per-prompt", "0"), "images_per_prompt: Input should be greater"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_options_that_a_matrix_lists_itself(fairbench, matrix, tmp_path, arguments, message):
    code, out, err = fairbench("run", "--matrix", matrix, *arguments)
    assert (code, out) == (2, "") and err.count("\n") == 1
    assert message in err and not list(tmp_path.iterdir())


def test_the_same_method_twice(fairbench, tmp_path):
    code, out, err = fairbench("run", "--method", "original", "--method", "original")
    assert (code, out) == (2, "") and "is there twice: name it once" in err
    assert fairbench("run", "--matrix", "gone.yaml")[2] == "fairbench: gone.yaml: there is no such file\n"
    assert not list(tmp_path.iterdir())
