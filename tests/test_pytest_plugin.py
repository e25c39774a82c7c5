"""The project's own gate on a run whose chances are known, and the plugin as a model team uses it."""

import subprocess
import sys
from importlib.metadata import entry_points

import numpy as np
import pandas as pd
import pytest
import yaml

from fairbench.errors import UserError
from fairbench.pytest_plugin import assert_bias_at_most
from fairbench.store.load import load_run
from tests.runs.stored_runs import JUDGES, men, store_run

pytest_plugins = ("pytester",)

THREE_LINES = """
from fairbench.pytest_plugin import assert_bias_at_most

def test_release(fairbench_run):
    assert_bias_at_most(fairbench_run, "gender", {limit}, confidence=0.95)
"""
SKEWED = np.linspace(0.02, 0.98, 30)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return store_run(tmp_path_factory.mktemp("gate") / "run", {"original": men(SKEWED), "fair": men(0.5)})


@pytest.fixture
def run_pytest(pytester):
    """Run the tests of a model team in a directory of its own."""
    installed = entry_points(group="pytest11", name="fairbench")

    def run(*arguments, apart=False):
        loaded = [] if installed else ["-p", "fairbench.pytest_plugin"]
        how = pytester.runpytest_subprocess if apart else pytester.runpytest_inprocess
        return how(*loaded, *map(str, arguments))

    return run


def test_the_gate_passes_what_is_shown_and_says_why_it_fails(directory):
    run = load_run(directory)
    assert_bias_at_most(run, "gender", 0.3)
    assert_bias_at_most(run, "gender", 0.3, judge="judge-b")
    with pytest.raises(AssertionError, match=r"not shown to be at most 0.05: .* the bias is too high"):
        assert_bias_at_most(run, "gender", 0.05)
    with pytest.raises(AssertionError, match="more prompts or images may show it"):
        assert_bias_at_most(run, "gender", 0.2)
    with pytest.raises(UserError, match="did you mean 'judge-a'"):
        assert_bias_at_most(run, "gender", 0.3, judge="judgea")
    with pytest.raises(UserError, match="has not judged race"):
        assert_bias_at_most(run, "race", 0.3)


def test_the_bias_is_that_to_the_target_of_the_run(tmp_path):
    options = {"target": (0.25, 0.75), "images": 60}
    reached = load_run(store_run(tmp_path / "reached", {"original": men(0.75)}, **options))
    assert_bias_at_most(reached, "gender", 0.15)
    even = load_run(store_run(tmp_path / "even", {"original": men(0.5)}, **options))
    with pytest.raises(AssertionError, match="the bias is too high"):
        assert_bias_at_most(even, "gender", 0.15)


def test_no_evidence_does_not_pass(tmp_path):
    blind = load_run(store_run(tmp_path / "blind", {"original": men(0.5)}, faces=0.0))
    with pytest.raises(AssertionError, match="0 prompts with a usable image are too few"):
        assert_bias_at_most(blind, "gender", 1.0)
    single = load_run(store_run(tmp_path / "single", {"original": men(0.5, 1)}))
    with pytest.raises(AssertionError, match="1 prompts"):
        assert_bias_at_most(single, "gender", 1.0)


def test_a_few_prompts_that_agree_are_no_evidence(tmp_path):
    def with_women(prompts, images, women):
        path = tmp_path / f"{prompts}-{images}"
        table = pd.read_parquet(
            store_run(path, {"original": men(0.5, prompts)}, images=images) / "records.parquet"
        )
        for judge in JUDGES:
            table[f"{judge}/gender/female"] = table["image_index"] < women
            table[f"{judge}/gender/male"] = table["image_index"] >= women
        table.to_parquet(path / "records.parquet")
        return load_run(path)

    with pytest.raises(AssertionError, match="2 prompts with a usable image are too few"):
        assert_bias_at_most(with_women(2, 2, 1), "gender", 0.0)
    even = with_women(12, 2, 1)
    with pytest.raises(AssertionError, match="more prompts or images may show it"):
        assert_bias_at_most(even, "gender", 0.2)
    assert_bias_at_most(even, "gender", 0.3)  # the mean of 12 fair prompts is as low as 0 once in 4,096


@pytest.mark.parametrize(
    ("limit", "code", "text"), [(0.3, 0, "1 passed"), (0.1, 1, "not shown to be at most")]
)
def test_three_lines_are_a_gate(directory, pytester, run_pytest, limit, code, text):
    pytester.makepyfile(THREE_LINES.format(limit=limit))
    done = run_pytest("--fairbench-run", directory)
    assert done.ret == code and text in done.stdout.str()


def test_the_run_may_be_named_in_the_ini_file_and_must_be_named_somewhere(directory, pytester, run_pytest):
    pytester.makepyfile(THREE_LINES.format(limit=0.3))
    nowhere = run_pytest()
    assert nowhere.ret == 1 and "give --fairbench-run DIRECTORY" in nowhere.stdout.str()
    pytester.makeini(f"[pytest]\nfairbench_run = {directory}\n")
    assert run_pytest().ret == 0
    pytester.makeini("[pytest]\nfairbench_run = missing\n")
    assert "is not a finished run" in run_pytest().stdout.str()


def test_a_run_that_is_not_there_is_made_from_its_settings(pytester, run_pytest):
    settings = {"method": "original", "model": "portraits-renderer", "model_options": {"male": 0.5}}
    settings |= {"test_prompts": 6, "images_per_prompt": 40}
    (pytester.path / "settings.yaml").write_text(yaml.safe_dump(settings))
    pytester.makepyfile(THREE_LINES.format(limit=0.4))
    named = ("--fairbench-config", "settings.yaml", "--fairbench-run", "run")
    assert run_pytest(*named, apart=True).ret == 0  # apart: torch cannot be loaded twice in one process
    assert len(load_run(pytester.path / "run").records) == 240


def test_loading_the_plugin_loads_nothing_heavy():
    code = "import fairbench.pytest_plugin, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "numpy", "pandas", "scipy", "pydantic", "fairbench.runs"} & set(done.stdout.split())
