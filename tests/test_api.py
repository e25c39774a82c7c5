"""The public face: what `fairbench` offers is there, typed, cheap to import, and shows itself."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import fairbench

SOURCE = ast.parse(Path(fairbench.__file__).read_text())


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    few = {"test_prompts": 2, "images_per_prompt": 2, "steps": 2}
    return fairbench.run("hard_prompt", out=tmp_path_factory.mktemp("api") / "run", **few)


def test_every_name_is_offered_found_and_typed():
    typed = {
        alias.asname or alias.name: f"{node.module}:{alias.name}"
        for block in SOURCE.body
        if isinstance(block, ast.If) and isinstance(block.test, ast.Name)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert typed == fairbench._PLACES
    assert set(fairbench.__all__) == {*typed, "__version__"}
    assert dir(fairbench) == sorted(fairbench.__all__)
    for name in fairbench.__all__:
        assert getattr(fairbench, name) is not None


def test_an_unknown_name_is_refused_by_python_and_by_type_checkers():
    with pytest.raises(AttributeError, match="'fairbench' has no attribute 'evalute'"):
        fairbench.evalute  # noqa: B018
    hooks = [node for node in ast.walk(SOURCE) if isinstance(node, ast.FunctionDef)]
    seen = [node.name for node in SOURCE.body if isinstance(node, ast.FunctionDef)]
    assert "__getattr__" in [node.name for node in hooks] and "__getattr__" not in seen


def test_importing_loads_nothing_heavy():
    code = (
        "import sys, fairbench; print([m for m in ('numpy', 'pandas', 'torch', 'rich') if m in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout == "[]\n"


def test_a_run_shows_itself_shortly_and_as_its_table(found):
    name = f"<Run {found.path}: hard_prompt on portraits, occupations, 8 images>"
    assert repr(found) == str(found) == name
    shown = found._repr_mimebundle_([], [])
    assert "hard_prompt (drawn) · portraits · occupations" in shown["text/html"]
    assert shown["text/html"].lstrip().startswith("<pre")


def test_a_run_gives_its_frame_and_its_pictures(found):
    frame = found.to_frame()
    assert set(frame["variant"]) == {"original", "hard_prompt"} and frame["bias_mean"].between(0, 1).all()
    gender, race = found.plot(), found.plot("race")
    assert gender.size == found.plot("gender").size and gender.tobytes() != race.tobytes()
    with pytest.raises(fairbench.UserError, match="hair"):
        found.plot("hair")


def test_methods_and_models_take_their_options_in_brackets(found, tmp_path):
    few = {"test_prompts": 1, "images_per_prompt": 2, "steps": 2}
    other = fairbench.run("hard_prompt[updates=3]", model="portraits[scheduler=ddim]", out=tmp_path, **few)
    assert other.config["method_options"] == {"updates": 3}
    assert other.config["model_options"] == {"scheduler": "ddim"}


def test_loaded_runs_and_directories_compare_alike(found):
    ours, theirs = fairbench.compare([found]), fairbench.compare([str(found.path)])
    assert ours == theirs and [run.name for run in ours.runs] == ["original", "hard_prompt"]


def test_whoever_is_named_is_told_how_far_it_is_and_nobody_else(tmp_path, capsys):
    told = []
    few = {"test_prompts": 1, "images_per_prompt": 2, "steps": 2, "judges": ["portraits-eval-a"]}
    fairbench.evaluate("portraits", out=tmp_path / "a", progress=lambda *step: told.append(step), **few)
    fairbench.evaluate("portraits", out=tmp_path / "b", **few)
    assert ("original images", 2, 2) in told
    assert capsys.readouterr() == ("", "")
