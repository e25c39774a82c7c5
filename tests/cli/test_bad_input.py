"""Every mistake a user can make: one line on standard error, exit code 2, nothing written."""

import errno
import json
import os
import shutil
from importlib.util import find_spec

import pytest
import torch
import yaml

from fairbench.intervention_files import save_intervention
from tests.runs.small import SUITE


@pytest.fixture
def small_run(small):
    """The command line of a run of the small world, with some settings changed."""

    def arguments(**changes):
        file = small.root / "settings.yaml"
        file.write_text(yaml.safe_dump(json.loads(json.dumps(small.settings(**changes)))))
        return ("run", "--config", file)

    return arguments


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--method", "biased_dtf"), "unknown method 'biased_dtf': did you mean 'biased_dft'"),
        (
            ("--method", "original", "--model", "portrait"),
            "unknown model 'portrait': did you mean 'portraits'",
        ),
        (
            ("--method", "original", "--model", "portraits[scheduler=eule]"),
            "unknown scheduler 'eule': did you mean 'euler'",
        ),
        (("--suite", "occupation"), "unknown suite 'occupation': did you mean 'occupations'"),
        (("--attributes", "gendre"), "unknown attribute 'gendre': did you mean 'gender'"),
        (("--attributes", ""), "name at least one attribute"),
        (("--target", "gender=-0.5/1.5"), "must not be negative"),
        (("--target", "gender=0.5/0.6"), "must sum to 1"),
        (("--target", "gender=0.5/0.25/0.25"), "give 2 probabilities"),
        (("--target", "race=.25/.25/.25/.25"), "race"),
        (("--images-per-prompt", "0"), "images_per_prompt: Input should be greater than or equal to 1"),
        (("--test-prompts", "-1"), "test_prompts: Input should be greater"),
        (("--updates", "0"), "updates: Input should be greater"),
        (("--steps", "-5"), "steps: Input should be greater"),
        (("--seed", "-1"), "seed: Input should be greater"),
        (("--guidance", "nan"), "guidance"),
        (("--seed", "many"), "--seed"),
        (("--sede", "1"), "--sede"),
        (("--method", "biased_dft[rank"), "write it like name[option=value"),
        (("--method", "biased_dft[rnak=8]"), "unknown key 'rnak': did you mean 'rank'"),
        (("--method", "biased_dft[rank=-8]"), "rank"),
        (("--method", "original", "--model", "portraits-renderer[mal=1]"), "no class 'mal'"),
        (("--method", "original", "--model", "org/name"), "needs a revision"),
        (("--config", "missing.yaml"), "missing.yaml: there is no such file"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_wrong_setting(fairbench, arguments, message):
    assert message in fairbench.refused("run", *arguments)


def test_an_unknown_judge(fairbench, small_run, small):
    err = fairbench.refused(
        "run", "--method", "original", "--model", small.root / "model", "--judge", "portrait-eval"
    )
    assert "unknown judge 'portrait-eval'" in err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("imags_per_prompt: 4", "did you mean 'images_per_prompt'"),
        ("images_per_prompt: many", "images_per_prompt: Input should be a valid integer"),
        ("target: {gender: [0.5, 0.6]}", "must sum to 1"),
        ("seed: [1", "is not YAML"),
        ("just words", "must hold keys with values"),
    ],
)
def test_a_wrong_settings_file(fairbench, tmp_path, text, message):
    (tmp_path / "settings.yaml").write_text(text)
    err = fairbench.refused("run", "--config", tmp_path / "settings.yaml")
    assert "settings.yaml" in err and message in err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("[cook, maid]", "[]"), "splits.test"),
        (("face of a {job}", "face of a {jop}"), "lacks its placeholder"),
        (("maid", "very " * 20 + "long"), "tokens"),
        (("test: [cook, maid]", "testing: [cook]"), "testing"),
    ],
    ids=["empty split", "no placeholder", "long prompt", "unknown split"],
)
def test_a_wrong_suite(fairbench, small_run, tmp_path, change, message):
    (tmp_path / "jobs.yaml").write_text(SUITE.replace(*change))
    err = fairbench.refused(*small_run(suite=str(tmp_path / "jobs.yaml")))
    assert message in err


def without_a_component(model):
    shutil.rmtree(model / "vae")


def with_a_pickle(model):
    (model / "unet" / "diffusion_pytorch_model.safetensors").rename(
        model / "unet" / "diffusion_pytorch_model.bin"
    )


def not_a_pipeline(model):
    (model / "model_index.json").unlink()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [(without_a_component, "no vae"), (with_a_pickle, "pickle"), (not_a_pipeline, "not a")],
)
def test_a_wrong_model_directory(fairbench, small_run, small, tmp_path, spoil, message):
    shutil.copytree(small.root / "model", tmp_path / "model")
    spoil(tmp_path / "model")
    assert message in fairbench.refused(*small_run(model=str(tmp_path / "model")))


def test_a_judge_that_does_not_read_the_attribute_or_reads_other_labels(
    fairbench, small_run, small, tmp_path
):
    assert "does not read age" in fairbench.refused(*small_run(attributes=["gender", "age"]))
    shutil.copytree(small.root / "judge-a", tmp_path / "judge")
    file = tmp_path / "judge" / "judge.json"
    file.write_text(file.read_text().replace('"female"', '"woman"'))
    assert "reads gender as woman, male" in fairbench.refused(*small_run(judges=[str(tmp_path / "judge")]))


def test_an_output_directory_that_cannot_be_used(fairbench, small_run, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("mine")
    assert "is a file" in fairbench.refused(*small_run(), "--out", tmp_path / "file")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    for mode in ("--resume", "--fresh"):
        assert "not of a run" in fairbench.refused(*small_run(), "--out", tmp_path / "full", mode)
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)  # root may write
        assert "no permission" in fairbench.refused(*small_run(), "--out", tmp_path / "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "full"]
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["thesis.txt"]


def test_a_directory_that_holds_a_different_run(fairbench, small_run, tmp_path):
    assert fairbench(*small_run(method="original"), "--out", tmp_path / "run", "--json")[0] == 0
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    err = fairbench.refused(*small_run(method="original"), "--out", tmp_path / "run", "--seed", 7)
    assert "different run (seed is 0 there and 7 here)" in err
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}


def test_a_full_disk_stops_with_one_line_and_code_1(fairbench, small_run, tmp_path, monkeypatch):
    from PIL import Image

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(Image.Image, "save", full)
        code, out, err = fairbench(*small_run(method="original"), "--out", tmp_path / "run", "--json")
    assert (code, out) == (1, "")
    assert (
        err == "fairbench: the disk is full: make space, and the same command goes on from where it stopped\n"
    )
    assert fairbench(*small_run(method="original"), "--out", tmp_path / "run", "--json")[0] == 0


def test_ctrl_c_leaves_with_130_and_the_same_command_goes_on(fairbench, small_run, tmp_path, monkeypatch):
    from fairbench.runs import session

    def pressed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(session, "record", pressed)
        code, out, err = fairbench(*small_run(), "--out", tmp_path / "run", "--json")
    assert (code, out) == (130, "")
    assert err == "fairbench: interrupted; what is done is kept, and the same command goes on from there\n"
    assert fairbench(*small_run(), "--out", tmp_path / "run", "--json")[0] == 0


def test_more_timesteps_per_update_than_there_are_steps(fairbench, small_run):
    settings = small_run(method="biased_dft", method_options={"timesteps_per_update": 500})
    assert "timesteps_per_update is 500" in fairbench.refused(*settings)


@pytest.mark.skipif(find_spec("bitsandbytes") is not None, reason="it is there")
def test_a_training_that_needs_what_is_not_there(fairbench, small_run):
    for options, message in (
        ({"face_weight": 1}, "brings none"),
        ({"optimizer": "adamw8bit"}, "needs bitsandbytes"),
        ({"change_factor": {"race": 0.5}}, "unknown attribute in change_factor 'race'"),
    ):
        settings = small_run(method="biased_dft", method_options=options | {"steps": 4})
        assert message in fairbench.refused(*settings)


def test_an_adapter_that_does_not_fit_the_model(fairbench, small_run, small, tmp_path):
    """Found before the images of the original model are made."""
    from fairbench.intervention import Intervention

    for made in (
        Intervention("biased_dft", "emergent", embeddings={"<five>": torch.zeros(5, 7)}),
        Intervention(
            "biased_dft",
            "emergent",
            tensors={f"unet.nowhere.lora_{side}.weight": torch.zeros(2, 2) for side in "AB"},
        ),
    ):
        save_intervention(made, tmp_path / "adapter")
        err = fairbench.refused(*small_run(method="biased_dft", adapter=str(tmp_path / "adapter")))
        assert "fit" in err
        shutil.rmtree(tmp_path / "adapter")


WRONG = {
    "0": "0",
    "below": "-1",
    "a half": "1.5",
    "a word": "many",
    "10^20": "1" + "0" * 20,
    "huge": "9" * 5000,
}
COUNTS = ("updates", "images-per-prompt", "test-prompts", "steps")
TEXTS = {"unknown": "nope", "empty": "", "long": "a" * 300, "escape": "\x1b[2J:fire:", "brackets": "a[b"}
NAMES = (
    "method", "model", "suite", "attributes", "target", "draw", "split", "tune", "optimizer", "lr-schedule",
    "rows", "preset", "stop-on",
)  # fmt: skip
LONG = "a" * 300
LINES = [
    *(f"run --method original --{option} {value}" for option in COUNTS for value in WRONG.values()),
    f"run --seed {2**64}",
    f"run --seed {2**63}",
    "run --seed " + "9" * 5000,
    "run --method biased_dft[rank=100000000000000000000]",
    "run --method biased_dft[rank=" + "9" * 5000 + "]",
    "run --method biased_dft[learning_rate=1e999]",
    "run --method biased_dft[updates=100000000000000000000]",
    "run --guidance 1e999",
    f"run --method original --out {LONG}",
    f"run --method original --out {'a/' * 3000}",
    f"run --method original --reference {LONG}",
    f"run --method original --suite {LONG}.yaml",
    f"run --config {LONG}.yaml",
    f"run --matrix {LONG}.yaml",
    f"evaluate --images {LONG}",
    f"judges check {LONG} --images {LONG}",
    f"export {LONG} --to {LONG}",
    f"compare {LONG} {LONG}",
    f"show {LONG}",
    "run --out=",
    "run --config=",
    "evaluate --images=",
    "compare a b --out=",
    "run --method original --out \udcff",
    "evaluate --images \udcff",
    "run --model models/sd15.safetensors",
    "nope",
    "run nope",
    "list nope",
    "check a",
]


@pytest.mark.parametrize("line", LINES, ids=lambda line: line[:50].encode("ascii", "replace").decode())
def test_a_wrong_line(fairbench, line):
    fairbench.refused(*line.split(" "))


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("option", NAMES)
def test_a_wrong_name(fairbench, option, text):
    more = (
        ()
        if option in ("method", "tune", "optimizer", "lr-schedule", "rows", "preset")
        else ("--method", "original")
    )
    fairbench.refused("run", *more, f"--{option}", TEXTS[text])
