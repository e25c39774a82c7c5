"""The public face: what `fairbench` offers is there, typed, cheap to import, and shows itself."""

import ast
import subprocess
import sys
from pathlib import Path

import numpy as np
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
    for value, words in (
        (found, "hard_prompt (drawn) · portraits · occupations"),
        (fairbench.compare(found), "A original"),
    ):
        shown = value._repr_mimebundle_()
        assert words in shown["text/html"] and words in shown["text/plain"]
        assert shown["text/html"].startswith("<pre") and len(repr(value)) < 200


def test_a_run_gives_its_frame_and_its_pictures(found):
    frame = found.to_frame().set_index(["method", "attribute"])
    paired = found.metrics.paired["gender"]
    assert frame.loc[("hard_prompt", "gender"), ["difference", "p_value"]].tolist() == [
        paired.difference, paired.p_value
    ]  # fmt: skip
    summary = found.metrics.variants["original"].bias["race"]
    row = frame.loc[("original", "race")]
    assert (row["low"], row["high"], row["debiased_low"]) == (*summary.interval, summary.debiased_interval[0])
    assert (found.path / "pictures" / "gender_by_prompt.png").is_file()
    gender, race = found.plot(), found.plot("race")
    assert gender.size == found.plot("gender").size and gender.tobytes() != race.tobytes()
    assert found.plot("race", label="Indian").tobytes() != race.tobytes()
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


def test_a_run_and_a_folder_are_evaluated_too(found, tmp_path):
    again = fairbench.evaluate(run=found, judges=["portraits-eval-b"], out=tmp_path / "again")
    assert again.metrics.primary_judge == "portraits-eval-b" and len(again.records) == len(found.records)
    folder = found.path / "images" / "original"
    given = fairbench.evaluate(images=folder, judges=["portraits-eval-a"], name="x", out=tmp_path / "given")
    assert (given.metrics.model, given.metrics.draw_class) == ("x", "unknown")


def test_a_loaded_model_and_a_function_take_the_place_of_a_name(tmp_path):
    few = {"test_prompts": 1, "images_per_prompt": 2, "steps": 2, "judges": ["portraits-eval-a"]}
    model = fairbench.load_model("portraits", device="cpu")
    loaded = fairbench.run("hard_prompt", model=model, out=tmp_path / "loaded", **few)
    named = fairbench.run("hard_prompt", model="portraits", out=tmp_path / "named", **few)
    columns = ["image", "portraits-eval-a/gender/female"]
    assert loaded.records[columns].equals(named.records[columns])
    with pytest.warns(UserWarning, match="portraits made before, and that is returned"):
        fairbench.run("hard_prompt", model=model, out=tmp_path / "loaded", **few)
    few.pop("steps")

    def white(prompts, seeds):
        return np.full((len(prompts), 64, 64, 3), 255, np.uint8)

    fairbench.evaluate(white, out=tmp_path / "white", **few)
    with pytest.warns(UserWarning, match="white made before, and that is returned: fresh=True"):
        fairbench.evaluate(white, out=tmp_path / "white", **few)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fairbench.compare([]), "at least one run"),
        (lambda: fairbench.compare("nowhere"), "nowhere: is not a finished run"),
        (lambda: fairbench.evaluate(5), "5 makes no images"),
        (lambda: fairbench.evaluate(), "one thing to measure"),
        (lambda: fairbench.evaluate("portraits", images="x"), "one thing to measure"),
        (lambda: fairbench.evaluate("portraits", run="x"), "one thing to measure"),
        (lambda: fairbench.evaluate("portraits", method="uce"), "method: evaluate trains nothing"),
        (lambda: fairbench.run("hard_prompt", images="x"), "run makes them"),
        (lambda: fairbench.run(42), "method 42: give its name"),
        (lambda: fairbench.run("biased_dft[rank=8]", method_options={"rank": 4}), "options is given twice"),
        (lambda: fairbench.bias([[4, 0]]), "divide counts by the number of images"),
        (lambda: fairbench.gap([[0.5, 0.5]]), "do not divide them"),
    ],
)
def test_a_mistake_is_one_line(call, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(fairbench.UserError, match=message) as refused:
        call()
    assert "\n" not in str(refused.value) and not [*tmp_path.iterdir()]


def test_completion_shows_what_was_measured_and_not_its_machinery(found):
    assert {"method", "variants", "balanced", "to_json"} <= set(dir(found.metrics))
    assert not {"parse_obj", "schema", "model_dump"} & set(dir(found.metrics))
    assert found == found and {found}
    assert "paired" in found.metrics and "pared" not in found.metrics
