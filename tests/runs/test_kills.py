"""Commands that are killed at any moment, again and again: the same command ends as if nothing had been."""

import multiprocessing
import os
import random
import shutil
import sys
import time
from contextlib import chdir
from pathlib import Path

import pytest
import yaml

from tests.golden import command, differing
from tests.runs.small import build

QUICK, THOROUGH = 1, 10
"""Kills of each command."""
METHODS = {"methods": ["nudge", "original"]}


def typed(place, arguments):
    """Run a command in ``place``, in a process that is there to be killed."""
    sys.stdout = sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115 open until the process ends
    sys.path.insert(0, str(place / "world" / "plugin"))
    with chdir(place):
        command(*arguments)


class Killer:
    """Runs commands in processes of their own, which begin with all that they import.

    Parameters
    ----------
    place
        Where the small world is.
    """

    def __init__(self, place):
        self.place, self.random = place, random.Random(0)
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(["tests.runs.loaded"])

    def to_the_end(self, *arguments):
        """Return the seconds that a command takes, which must succeed."""
        began, process = time.perf_counter(), self.begin(arguments)
        process.join()
        assert process.exitcode == 0, arguments
        return time.perf_counter() - began

    def kill(self, seconds, *arguments):
        """Kill a command at a moment within so many seconds; return whether it was still at work."""
        process = self.begin(arguments)
        process.join(self.random.uniform(0, seconds))
        process.kill()
        process.join()
        return process.exitcode != 0

    def begin(self, arguments):
        process = self.context.Process(target=typed, args=(self.place, arguments))
        process.start()
        return process


@pytest.fixture(scope="module")
def killer(tmp_path_factory):
    """A small world, with a finished run in it and settings to type."""
    place = tmp_path_factory.mktemp("kills")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")  # so that sums, too, are the same bits
        world = build(place / "world")
        settings = world.settings(images_per_prompt=2)
        (place / "one.yaml").write_text(yaml.safe_dump(settings))
        del settings["method"]
        (place / "many.yaml").write_text(yaml.safe_dump(METHODS | {"settings": settings}))
        killer = Killer(place)
        killer.to_the_end("run", "--config", "one.yaml", "--out", "done")
        yield killer


COMMANDS = {
    "run": ("run", "--config", "one.yaml", "--out"),
    "evaluate": ("evaluate", "done", "--judge", "world/judge-b", "--out"),
    "until": (
        "evaluate", "--model", "world/model", "--suite", "world/jobs.yaml", "--judge", "world/judge-a",
        "--features", "world/ssl", "--steps", "1", "--until-width", "1", "--out",
    ),
    "matrix": ("run", "--matrix", "many.yaml", "--out"),
    "export": ("export", "done", "--to"),
    "score": ("score",),
}  # fmt: skip


def killed_and_gone_on_with(killer, name, kills):
    """Kill a command so often, let it go to its end, and say what is otherwise than without a kill."""
    whole, torn = f"{name}-whole", f"{name}-torn"
    for place in (whole, torn) if name == "score" else ():
        shutil.copytree(killer.place / "done", killer.place / place)
    seconds = killer.to_the_end(*COMMANDS[name], whole)
    hits = sum(killer.kill(seconds, *COMMANDS[name], torn) for _ in range(kills))
    assert hits or kills < THOROUGH
    killer.to_the_end(*COMMANDS[name], torn)
    left = [path.name for path in (killer.place / torn).rglob("*") if path.suffix == ".tmp"]
    assert not left
    places = killer.place / whole, killer.place / torn
    found = [file for file in differing(*places) if Path(file).name not in ("provenance.json", "matrix.json")]
    for each in places:
        shutil.rmtree(each)
    return found


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "until"])
def test_a_kill_at_any_moment_changes_nothing(killer, name):
    assert killed_and_gone_on_with(killer, name, QUICK) == []


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", COMMANDS)
def test_ten_kills_in_a_row_change_nothing(killer, name):
    assert killed_and_gone_on_with(killer, name, THOROUGH) == []
