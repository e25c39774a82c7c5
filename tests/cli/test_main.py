import json
import os
import subprocess
import sys

import pytest

from fairbench.cli import main as main_module
from fairbench.config import RunConfig
from tests.cli.command import call

HEAVY = ("torch", "diffusers", "transformers", "pandas", "matplotlib", "scipy", "timm", "peft")


KINDS = ["methods", "models", "suites", "judges"]


@pytest.mark.parametrize("arguments", [["--help"], *(["list", kind] for kind in KINDS)], ids=" ".join)
def test_the_quick_commands_load_nothing_heavy(arguments):
    code = (
        "import sys; from fairbench.cli.main import main\n"
        f"try: main({arguments})\nexcept SystemExit as left: code = left.code\n"
        f"print(code, [name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stderr.endswith("0 []\n"), done.stderr


@pytest.mark.parametrize("kind", KINDS)
def test_list_names_what_a_run_can_name(capsys, kind):
    code, out, _ = call(capsys, "list", kind, "--json")
    names = {row["name"] for row in json.loads(out)}
    known = {"methods": {"original", "biased_dft"}, "models": {"portraits", "portraits-renderer"},
             "suites": {"occupations", "sports"}, "judges": set()}  # fmt: skip
    assert code == 0 and known[kind] <= names
    assert call(capsys, "list", kind)[0] == 0


def test_show_prints_docstring_and_options_with_their_defaults(capsys, small):
    code, out, _ = call(capsys, "show", "nudge", "--json")
    shown = json.loads(out)
    assert (code, shown["kind"], shown["description"]) == (
        0,
        "method",
        "Moves the prompt embeddings a little.",
    )
    assert {option["option"]: option["default"] for option in shown["options"]} == {"updates": 3, "size": 0.5}
    _, text, _ = call(capsys, "show", "biased_dft")
    assert "rank" in text and "draw class: emergent" in text and "attributes: any\n" in text
    assert "attributes: gender, race\n" in call(capsys, "show", "ethical_intervention")[1]
    assert call(capsys, "show", "occupations")[0] == 0
    assert call(capsys, "show", "portraits-renderer")[0] == 0
    assert call(capsys, "show", small.root / "jobs.yaml")[0] == 0


def test_show_of_an_unknown_name_names_the_nearest(capsys):
    code, _, err = call(capsys, "show", "occupatons")
    assert code == 2 and "did you mean 'occupations'" in err


def test_version(capsys):
    assert call(capsys, "--version")[1].startswith("fairbench 0.")


def test_a_namesake_in_the_same_environment_is_refused(capsys, monkeypatch):
    owners = {"fairbench": ["fairbench", "fairbench-t2i"]}
    monkeypatch.setattr("importlib.metadata.packages_distributions", lambda: owners)
    code, _, err = call(capsys, "list", "methods")
    assert code == 2 and err.count("\n") == 1
    assert "installed by fairbench and fairbench-t2i" in err


def test_a_fault_of_ours_leaves_with_1_and_its_traceback(capsys, monkeypatch):
    monkeypatch.setattr(main_module, "_refuse_a_namesake", lambda: 1 / 0)
    code, _, err = call(capsys, "list", "methods")
    assert (
        code == 1
        and "Traceback" in err
        and err.endswith("fairbench: failed: ZeroDivisionError: division by zero\n")
    )


@pytest.mark.parametrize("arguments", [["list", "suites"], ["show", "occupations", "--json"]], ids=" ".join)
def test_a_reader_that_has_seen_enough_is_told_nothing(arguments):
    code = f"from fairbench.cli.main import main; main({arguments})"
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=write, stderr=subprocess.PIPE, text=True, timeout=60
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (1, "")


def test_the_defaults_that_the_help_names_are_those_of_the_settings(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    _, out, _ = call(capsys, "run", "--help")
    for key in ("method", "model", "suite", "target", "images_per_prompt", "seed"):
        line = next(line for line in out.splitlines() if f"--{key.replace('_', '-')} " in line)
        assert f"[default: ({RunConfig().model_dump()[key]})]" in line
