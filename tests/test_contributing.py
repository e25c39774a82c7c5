"""The examples in CONTRIBUTING.md are copied by strangers, so they have to run."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml

from fairbench.attributes import AttributeSpace
from fairbench.suites import load_suite

TEXT = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")


def example(heading, language):
    return re.search(rf"## {heading}\n.*?```{language}\n(.*?)```", TEXT, re.DOTALL)[1]


def test_the_method():
    scope = {}
    exec(example("Add a method", "python"), scope)
    method = scope["NameIt"](scope["NameIt"].Config())
    intervention = method.fit(SimpleNamespace(space=AttributeSpace.parse("gender")))
    with method.apply(intervention, None, lambda seeds: [seed % 2 for seed in seeds]) as hooks:
        assert hooks.rewrite(["a cook", "a cook"], [4, 5]) == ["a cook, female", "a cook, male"]


def test_the_suite(tmp_path):
    path = tmp_path / "hobbies.yaml"
    path.write_text(example("Add a suite", "yaml"))
    assert load_suite(path).prompts("test")[0].text == "a photo of the face of a person who likes hiking"
    assert yaml.safe_load(path.read_text())["version"] == "1"


def test_the_judge(tmp_path, monkeypatch):
    from fairbench.judges import load_judge

    monkeypatch.chdir(tmp_path)
    batch = (torch.rand(4, 3, 64, 64), torch.tensor([0, 1, 0, 1]), torch.tensor([1, 1, 1, 0]))
    exec(example("Add a judge", "python"), {"batches": [batch]})
    assert load_judge("./my-judge").attributes == {"gender": ("female", "male")}


@pytest.mark.parametrize("heading", ["Add a method", "Add a judge"])
def test_examples_are_short(heading):
    assert sum(bool(line.strip()) for line in example(heading, "python").splitlines()) <= 30


def test_every_dependency_has_its_reason():
    import tomllib

    settings = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())
    needed = {re.split(r"[^\w-]", line)[0] for line in settings["project"]["dependencies"]}
    table = TEXT.partition("## Dependencies")[2].partition("## ")[0]
    listed = {name for row in re.findall(r"^\| ([a-z][\w, -]*) \|", table, re.M) for name in row.split(", ")}
    assert listed - {"library"} == needed
