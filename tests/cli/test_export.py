"""A run of a real method from the command line, and what it learnt in a plain pipeline."""

import json

import pytest
import yaml
from diffusers import StableDiffusionPipeline

from tests.cli.command import call
from tests.runs.stored_runs import men, store_run


@pytest.fixture
def settings(small, tmp_path):
    options = {"prompts_per_update": 2, "images_per_prompt": 2, "noises_per_prompt": 2}
    options |= {"timesteps_per_update": None, "learning_rate": 0.05}
    path = tmp_path / "settings.yaml"
    chosen = small.settings(method="biased_dft", method_options=options, updates=2)
    path.write_text(yaml.safe_dump(json.loads(json.dumps(chosen))))
    return path


def test_training_options_reach_the_method_and_the_result_travels(capsys, small, settings, tmp_path):
    run, out = tmp_path / "run", tmp_path / "out"
    command = ["run", "--config", settings, "--out", run, "--tune", "unet", "--grad-clip", "1.0"]
    command += ["--optimizer", "sgd", "--lr-schedule", "linear", "--rows", "4"]
    code, _, err = call(capsys, *command)
    assert code == 0, err
    kept = yaml.safe_load((run / "config.yaml").read_text())["method_options"]
    assert kept["tune"] == "unet" and kept["clip"] == 1.0 and kept["optimizer"] == "sgd"
    assert kept["lr_schedule"] == "linear" and kept["rows"] == 4 and kept["learning_rate"] == 0.05
    code, said, err = call(capsys, "export", run, "--to", out)
    assert code == 0 and "README.md says how" in said, err
    card = (out / "README.md").read_text()
    assert "| bias gender" in card and "| tuned | unet |" in card
    plain = StableDiffusionPipeline.from_pretrained(small.root / "model", safety_checker=None)
    plain.load_lora_weights(str(out))
    assert any("lora" in name for name, _ in plain.unet.named_parameters())
    assert call(capsys, "export", run, "--to", out)[0] == 2


def test_what_cannot_be_exported(capsys, small, tmp_path):
    code, _, err = call(capsys, "export", tmp_path / "nothing", "--to", tmp_path / "out")
    assert code == 2 and "not a finished run" in err
    run = tmp_path / "run"
    run.mkdir()
    (run / "status.json").write_text("{}")
    code, _, err = call(capsys, "export", run, "--to", tmp_path / "out")
    assert code == 2 and "not a finished run" in err and not (tmp_path / "out").exists()
    store_run(tmp_path / "original", {"original": men(0.5)})
    code, _, err = call(capsys, "export", tmp_path / "original", "--to", tmp_path / "out")
    assert code == 2 and "nothing to export" in err and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--method", "original", "--tune", "unet"), "unknown key 'tune'"),
        (("--method", "original", "--grad-clip", "1"), "unknown key 'clip'"),
        (("--tune", "prefix", "--method", "biased_dft[rank=8]"), "no rank: leave out one of the two"),
        (("--tune", "unets"), "tune: "),
        (("--optimizer", "adan"), "optimizer: "),
        (("--lr-schedule", "never"), "lr_schedule: "),
        (("--grad-clip", "-1"), "clip: "),
        (("--rows", "0"), "rows"),
        (("--rows", "many"), "--rows many: give a number of U-Net rows, or auto"),
        (("--method", "draft_k[last=99]"), "give at most as many"),
        (("--method", "drtune[trained=99]"), "give at most as many"),
        (("--method", "prompt_prefix[tune=unet]"), "tune: "),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_mistakes_are_one_line_and_nothing_is_written(capsys, monkeypatch, tmp_path, arguments, message):
    monkeypatch.chdir(tmp_path)
    code, out, err = call(capsys, "run", *arguments)
    assert (code, out) == (2, "") and err.count("\n") == 1 and message in err, err
    assert not list(tmp_path.iterdir())
