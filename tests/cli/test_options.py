"""Options become settings by their names."""

from inspect import signature
from pathlib import Path

import pytest

from fairbench.cli import options
from fairbench.cli.evaluate import evaluate
from fairbench.cli.run import run
from fairbench.config import RunConfig
from fairbench.finetuning.settings import Settings

OF_THE_COMMAND = {"run", "preset", "config", "matrix", "out", "fresh", "as_json", "verify"}


@pytest.mark.parametrize("command", [run, evaluate])
def test_every_option_is_a_setting_or_of_the_command_itself(command):
    names = {options.RENAMED.get(name, name) for name in signature(command).parameters}
    assert names <= {*RunConfig.model_fields, *options.TRAINING, *OF_THE_COMMAND}
    assert set(options.TRAINING) <= Settings.model_fields.keys()
    assert not set(options.TRAINING) & RunConfig.model_fields.keys()


def test_what_is_given_becomes_a_setting():
    given = {"method": ["original"], "model": "sd", "images": Path("a"), "judge": ["b"], "features": [],
             "reference": Path("c"), "seed": 0, "steps": None, "out": Path("d"), "rows": "x"}  # fmt: skip
    assert options.settings(given) == {"judges": ["b"], "reference": "c", "seed": 0}


@pytest.mark.parametrize(("rows", "read"), [("8", 8), ("auto", "auto")])
def test_what_is_given_becomes_a_setting_of_the_training(rows, read):
    given = {"tune": "unet", "optimizer": None, "grad_clip": 0.5, "rows": rows, "seed": 1}
    assert options.training(given) == {"tune": "unet", "clip": 0.5, "rows": read}
    assert options.training({"rows": None, "seed": 1}) == {}
