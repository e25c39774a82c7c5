"""The examples in the docstrings give what they say, and every public function of these modules has one.

Those of what `fairbench` itself offers run in a folder that holds a finished run, runs/example.
"""

import doctest
import inspect
from importlib import import_module
from pathlib import Path

import pytest

import fairbench

ROOT = Path(__file__).parents[1] / "fairbench"
ROOMS = ("alignment", "metrics")
FILES = (
    "fairbench.attributes",
    "fairbench.config",
    "fairbench.diagnostics.noise_scale",
    "fairbench.diagnostics.shapley",
    "fairbench.draws",
    "fairbench.finetuning.batches",
    "fairbench.finetuning.gains",
    "fairbench.judges.confusion",
    "fairbench.judges.error_rates",
    "fairbench.judges.skin_tone",
    "fairbench.markdown",
    "fairbench.records",
    "fairbench.seeding",
    "fairbench.suites",
    "fairbench.wording",
)
WITHOUT = {
    "fairbench.judges.confusion.write_confusion",  # needs a judge on disk
}


def modules():
    """Return the names of the modules whose examples are run."""
    paths = [path for room in ROOMS for path in sorted((ROOT / room).glob("*.py"))]
    rooms = [f"fairbench.{path.parent.name}.{path.stem}" for path in paths if path.stem != "__init__"]
    return [*rooms, *FILES]


def examples(module):
    """Return the docstrings of a module that have examples, by the full name of what they are of."""
    return {found.name: found for found in doctest.DocTestFinder().find(module) if found.examples}


def public_functions(module):
    """Yield the full names of the public functions that are defined in a module, also wrapped ones."""
    for name, value in vars(module).items():
        own = inspect.isfunction(inspect.unwrap(value)) and value.__module__ == module.__name__
        if own and not name.startswith("_"):
            yield f"{module.__name__}.{name}"


@pytest.mark.parametrize("name", modules())
def test_examples_give_what_they_say(name):
    report = []
    runner = doctest.DocTestRunner(verbose=False)
    for example in examples(import_module(name)).values():
        runner.run(example, out=report.append)
    assert not report, "".join(report)


@pytest.mark.parametrize("name", modules())
def test_every_public_function_has_an_example(name):
    module = import_module(name)
    assert sorted(set(public_functions(module)) - set(examples(module)) - WITHOUT) == []


def test_what_is_left_out_is_there_and_has_none():
    for name in WITHOUT:
        module = import_module(name.rpartition(".")[0])
        assert name in public_functions(module)
        assert name not in examples(module)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the run that the examples speak of."""
    folder = tmp_path_factory.mktemp("examples")
    few = {"test_prompts": 2, "images_per_prompt": 2, "steps": 2}
    fairbench.run("hard_prompt", out=folder / "runs" / "example", **few)
    return folder


def offered():
    """Return what `fairbench` offers and can be looked at, methods of classes included, by its name there."""
    found = {name: getattr(fairbench, name) for name in fairbench.__all__ if name != "__version__"}
    run = fairbench.load_run.__globals__["Run"]
    return found | {f"Run.{name}": getattr(run, name) for name in vars(run) if not name.startswith("_")}


@pytest.mark.parametrize("name", offered())
def test_what_fairbench_offers_has_an_example_that_gives_what_it_says(name, folder, monkeypatch):
    monkeypatch.chdir(folder)
    value, report = inspect.unwrap(offered()[name]), []
    finder = doctest.DocTestFinder(recurse=False)
    found = finder.find(value, name, import_module(value.__module__))
    assert [example for each in found for example in each.examples]
    for each in found:
        doctest.DocTestRunner(verbose=False).run(each, out=report.append)
    assert not report, "".join(report)
