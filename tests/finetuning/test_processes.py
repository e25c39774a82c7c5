"""Two processes on one CPU, as `accelerate launch` would start them, against one."""

import os
import socket
import subprocess
import sys
from contextlib import closing

import pytest
import torch
from safetensors.torch import load_file

from fairbench.errors import UserError
from fairbench.finetuning.processes import Processes
from tests.finetuning import one_of_two
from tests.finetuning.stand_ins import ColourJudge


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """What each of two processes saved, by name and number."""
    directory = tmp_path_factory.mktemp("two")
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "ACCELERATE_USE_CPU": "true",
        "OMP_NUM_THREADS": "1",
    }
    started = [
        subprocess.Popen(
            [sys.executable, one_of_two.__file__, str(directory)],
            env=os.environ
            | shared
            | {"MASTER_PORT": str(port), "RANK": str(index), "LOCAL_RANK": str(index)},
        )
        for index in range(2)
    ]
    assert [process.wait(timeout=500) for process in started] == [0, 0]
    return lambda name, index: load_file(directory / f"{name}-{index}.safetensors")


@pytest.mark.slow
def test_two_processes_give_the_update_of_one(two, tmp_path):
    alone = one_of_two.train(tmp_path, ColourJudge())
    first, second = two("seeing", 0), two("seeing", 1)
    for name, value in alone.items():
        if "lora" in name:
            assert torch.equal(first[name], second[name])
            torch.testing.assert_close(first[name], value, rtol=1e-5, atol=1e-5 * value.abs().max().item())
    assert sum(value.abs().sum() for name, value in alone.items() if "lora_B" in name) > 0  # began at zero
    torch.testing.assert_close(first["loss"], alone["loss"], rtol=1e-4, atol=0)
    assert len(second["loss"]) == 0  # one log is enough


@pytest.mark.slow
def test_two_processes_clip_what_they_have_added_up(two, tmp_path):
    alone = one_of_two.train(tmp_path, ColourJudge(), clip=one_of_two.CLIP)
    for name, value in alone.items():
        if "lora" in name:
            found = two("clipped", 0)[name]
            torch.testing.assert_close(found, value, rtol=1e-4, atol=1e-5 * value.abs().max().item())
    assert not torch.equal(alone["loss"], two("seeing", 0)["loss"])  # it made a difference


@pytest.mark.slow
def test_an_update_that_fails_in_one_process_is_skipped_by_all(two):
    """The authors' processes looked at their own gradients, and drifted apart."""
    first, second = two("blind", 0), two("blind", 1)
    assert first["nonfinite"].tolist() == [1, 1]
    assert all(torch.equal(first[name], second[name]) for name in second if "lora" in name)


def test_more_processes_than_prompts_are_a_mistake(tmp_path, monkeypatch):
    monkeypatch.setattr(Processes, "__init__", lambda self: vars(self).update(index=0, count=4))
    with pytest.raises(UserError, match="4 processes share 3 prompts"):
        one_of_two.train(tmp_path, ColourJudge())
