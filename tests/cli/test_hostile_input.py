"""Files and command lines that are meant to do harm: one line, exit code 2, nothing written, and at once."""

import csv
import json
import os
import shutil
import subprocess
import sys
from itertools import product

import pytest

from fairbench.markdown import escaped, markdown_table
from fairbench.storage import atomic_write_csv
from tests.test_parsing import BOMB

ESCAPE = "\x1b]0;mine\x07\x1b[2J\u202e:fire:"

YAML = {
    "bomb": BOMB,
    "brackets": "a: " + "[" * 5000 + "]" * 5000,
    "maps": "{a: " * 5000,
    "dashes": "- " * 5000,
    "questions": "? " * 5000,
    "itself": "a: &a [*a]",
    "twice": "name: a\nname: b",
    "twice inside": "settings: {seed: 1, seed: 2}",
    "digits": "seed: " + "9" * 5000,
    "base 60": "seed: 1" + ":1" * 5000,
    "surrogate": 'name: "\\ud800"',
    "tag": "name: !!python/object/apply:os.system [id]",
    "not UTF-8": b"\xff\xfe\x00n",
    "zero byte": "name: a\0b",
    "escape in a key": '"\\e[2J\\u202e": 1',
    "escape in the middle": "name: \x1b[2J",
    "empty": "",
    "a list": "- a",
    "torn": "name: [a",
    "large": "name: a\n" + "#" * (4 * 2**20),
}
JSON = {
    "brackets": "[" * 100_000 + "]" * 100_000,
    "maps": '{"a":' * 100_000,
    "digits": '{"name": ' + "9" * 5000 + "}",
    "not UTF-8": b'{"name": "\xff"}',
    "empty": "",
    "a list": "[]",
    "torn": '{"name": ',
    "escape": json.dumps({"_class_name": ESCAPE, "name": ESCAPE, "schema_version": ESCAPE, ESCAPE: 1}),
}
READERS = {
    "config": ("run", "--config", "{file}"),
    "config of many": ("run", "--method", "original", "--method", "fair_pca", "--config", "{file}"),
    "matrix": ("run", "--matrix", "{file}"),
    "suite": ("run", "--method", "original", "--suite", "{file}"),
    "judge": ("judges", "check", "{file}", "--images", "."),
    "show": ("show", "{file}"),
}
JSON_READERS = {
    "model": ("model_index.json", ("run", "--method", "original", "--model", "{folder}")),
    "judge": ("judge.json", ("judges", "check", "{folder}", "--images", ".")),
    "reference": ("reference.json", ("check", "{run}", "--against", "{folder}/reference.json")),
}


def given(reader, **places):
    return [part.format(**places) for part in reader]


@pytest.mark.parametrize(("text", "reader"), [*product(YAML, READERS)])
def test_a_yaml_file(fairbench, tmp_path, text, reader):
    content = YAML[text]
    (tmp_path / "x.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    assert "x.yaml" in fairbench.refused(*given(READERS[reader], file=tmp_path / "x.yaml"))


@pytest.mark.parametrize(("text", "reader"), [*product(JSON, JSON_READERS)])
def test_a_json_file(fairbench, tmp_path, finished, text, reader):
    content, (name, arguments) = JSON[text], JSON_READERS[reader]
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    fairbench.refused(*given(arguments, folder=tmp_path, run=finished))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    from tests.runs.stored_runs import men, store_run

    return store_run(tmp_path_factory.mktemp("finished") / "run", {"original": men(0.9)})


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kind", ["pipe", "folder", "loop", "endless", "nowhere"])
def test_what_is_no_regular_file(fairbench, tmp_path, kind, reader):
    path = tmp_path / "x.yaml"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind != "nowhere":
        path.symlink_to("/dev/zero" if kind == "endless" else path)
    assert "x.yaml" in fairbench.refused(*given(READERS[reader], file=path))


@pytest.mark.parametrize(
    "part", ["model.bin", "../model.safetensors", "/model.safetensors", 1, None, f"{ESCAPE}.safetensors"]
)
def test_an_index_of_weights_that_names_something_else(fairbench, small, tmp_path, part):
    shutil.copytree(small.root / "model", tmp_path / "model")
    index = tmp_path / "model/text_encoder/model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": part}}))
    err = fairbench.refused("run", "--method", "original", "--model", tmp_path / "model")
    assert "only .safetensors files beside it are read" in err


@pytest.mark.parametrize("source", ["../..", "..", "/", "inside"])
def test_a_judge_file_that_looks_outside_its_folder(fairbench, tmp_path, source):
    (tmp_path / "judges").mkdir()
    (tmp_path / "judges/inside").symlink_to(tmp_path)
    network = {
        "kind": "transformers",
        "source": source,
        "attributes": {"gender": {"female": "a", "male": "b"}},
    }
    (tmp_path / "judges/x.yaml").write_text(json.dumps({"name": "x", "networks": [network]}))
    err = fairbench.refused("judges", "check", tmp_path / "judges/x.yaml", "--images", ".")
    assert "must lie in the folder of the judge file" in err


@pytest.mark.parametrize("source", ["raise {}", "def make(): raise {}"])
@pytest.mark.parametrize("error", ["SystemExit(0)", "ValueError('a\\nb\\x1b[2J')", "RecursionError"])
def test_a_model_plugin_that_fails(fairbench, tmp_path, monkeypatch, request, source, error):
    name = f"plugin_{abs(hash(request.node.name))}"
    info = tmp_path / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[fairbench.models]\nbad = {name}:make\n")
    (tmp_path / f"{name}.py").write_text(source.format(error))
    monkeypatch.syspath_prepend(tmp_path)
    assert "of model 'bad'" in fairbench.refused("run", "--method", "original", "--model", "bad")


def test_a_plugin_that_leaves_python_in_the_middle_is_a_failure(fairbench, monkeypatch):
    from fairbench.suites import PromptSuite

    def leave(*_):
        raise SystemExit(0)

    monkeypatch.setattr(PromptSuite, "prompts", leave)
    code, _, err = fairbench("list", "suites")
    assert (code, err) == (1, "fairbench: failed: what was called left Python with 0\n")


def test_names_are_shown_and_not_obeyed(fairbench, tmp_path):
    from tests.runs.stored_runs import men, store_run

    place = store_run(tmp_path / "run", {"original": men(0.9)})
    metrics = place / "metrics.json"
    content = json.loads(metrics.read_text())
    metrics.write_text(json.dumps(content | {"model": ESCAPE, "suite": ESCAPE}))
    for arguments in (("show", place), ("show", place, "--json")):
        code, out, _ = fairbench(*arguments)
        assert code == 0 and ":fire:" in out and "\\u001b]0;mine" in out.replace("\n", "")
        assert out.replace("\n", "").isprintable()
    assert json.loads(fairbench("show", place, "--json")[1])["model"] == ESCAPE


def test_no_cell_of_a_csv_is_a_formula(tmp_path):
    import pandas as pd

    names = ["=cmd|' /C calc'!A0", "+1", "-1", "@x", "\t=1", "plain = 1", None]
    atomic_write_csv(tmp_path / "t.csv", pd.DataFrame({"name": names, "number": [-1.5] * len(names)}))
    with (tmp_path / "t.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == [*(f"'{name}" for name in names[:5]), "plain = 1", ""]
    assert {row["number"] for row in rows} == {"-1.5"}


def test_markdown_and_code_of_a_card_stay_what_they_are():
    from fairbench.intervention import Intervention
    from fairbench.intervention_files import model_card

    text = "a|b\n<script>![c](http://d)\x1b"
    assert escaped(text) == "a\\|b &lt;script>![c]\\(http://d)\\u001b"
    assert markdown_table(["x"], [[text]]).count("\n") == 2
    import torch

    token = '"); import os\nos.system("id") #'
    made = Intervention(text, "emergent", {}, {"model": text}, {token: torch.zeros(1, 2)})
    card = model_card(made)
    assert "<script>" not in card and "\x1b" not in card
    code = card.split("```python\n")[1].split("```")[0]
    assert code.splitlines()[-1].startswith('pipeline("\\"); import os\\nos.system(')


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
@pytest.mark.parametrize("closed", [False, True])
def test_output_in_any_encoding_or_none(tmp_path, finished, encoding, closed):
    done = subprocess.run(
        [
            "sh",
            "-c",
            f'"$@"{" >&-" * closed}',
            "sh",
            sys.executable,
            "-m",
            "fairbench",
            "show",
            str(finished),
        ],
        capture_output=True,
        env=os.environ | {"PYTHONIOENCODING": encoding},
        cwd=tmp_path,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert bool(done.stdout) != closed


def test_a_matrix_of_images_that_are_there_and_two_matrices_at_once(fairbench, small, tmp_path):
    from fairbench.storage import lock

    both = {key: value for key, value in small.settings().items() if key != "method"}
    (tmp_path / "m.yaml").write_text(
        json.dumps({"methods": ["original"], "settings": both | {"images": "x"}})
    )
    assert "use fairbench evaluate --images" in fairbench.refused("run", "--matrix", tmp_path / "m.yaml")
    (tmp_path / "m.yaml").write_text(json.dumps({"methods": ["original"], "settings": both}))
    (tmp_path / "out").mkdir()
    (tmp_path / "out/matrix.json").write_text("[]")
    with lock(tmp_path / "out"):
        err = fairbench.refused("run", "--matrix", tmp_path / "m.yaml", "--out", tmp_path / "out")
    assert "another run is writing here" in err and (tmp_path / "out/matrix.json").read_text() == "[]"
