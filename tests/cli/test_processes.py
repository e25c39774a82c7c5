"""``fairbench run`` in two processes, as ``accelerate launch`` starts them, against one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from fairbench.runs.run import run

OPTIONS = {
    "prompts_per_update": 2, "images_per_prompt": 4, "noises_per_prompt": 4, "timesteps_per_update": 2,
    "steps": 3, "rank": 4, "learning_rate": 0.01, "optimizer": "sgd", "clip": None,
}  # fmt: skip
WEIGHTS = "adapter/pytorch_lora_weights.safetensors"


@pytest.fixture
def launched(small, tmp_path):
    """Run the command in two processes; return exit code, standard output and standard error."""
    settings = small.settings(method="biased_dft", method_options=OPTIONS, updates=2)
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump(settings))
    command = Path(sys.executable).with_name("fairbench")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]

    def launch(*arguments):
        done = subprocess.run(
            [*launcher, command, "run", "--config", "settings.yaml", "--out", "two", *arguments],
            env=os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=500,
        )
        return done.returncode, done.stdout, done.stderr

    return launch


@pytest.mark.slow
def test_the_first_process_owns_the_run_and_the_others_train_with_it(launched, small, tmp_path):
    code, out, err = launched("--json")
    assert code == 0, err
    metrics = json.loads(out)  # printed once
    run(small.config(method="biased_dft", method_options=OPTIONS, updates=2), tmp_path / "one")
    alone, together = load_file(tmp_path / "one" / WEIGHTS), load_file(tmp_path / "two" / WEIGHTS)
    assert alone.keys() == together.keys()
    for name, value in alone.items():  # of random networks: gradients so small that rounding shows
        torch.testing.assert_close(together[name], value, rtol=0, atol=0.01 * value.abs().max().item())
    assert metrics["variants"].keys() == {"original", "biased_dft"}
    names = [{path.name for path in (tmp_path / place).iterdir()} - {"pictures"} for place in ("one", "two")]
    assert names[0] == names[1]
    code, out, err = launched()
    assert code == 0 and out.count("already done") == 1, err


@pytest.mark.slow
def test_what_only_the_first_process_sees_ends_the_others(launched, tmp_path):
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "mine.txt").write_text("not of a run")
    code, out, err = launched()
    assert code != 0 and out == "" and "holds files that are not of a run" in err
    assert [path.name for path in (tmp_path / "two").iterdir()] == ["mine.txt"]


def test_several_runs_are_one_process(capsys, monkeypatch):
    from fairbench.cli.main import main
    from fairbench.finetuning.processes import Processes

    monkeypatch.setattr(Processes, "__init__", lambda self: vars(self).update(index=0, count=2))
    with pytest.raises(SystemExit) as left:
        main(["run", "--method", "original", "--method", "biased_dft"])
    err = capsys.readouterr().err
    assert left.value.code == 2 and "launch each run by itself" in err and err.count("\n") == 1
