import json
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from fairbench.errors import UserError
from fairbench.judges import build_judge, list_judges, load_judge, save_judge

CONFIG = {
    "name": "tiny",
    "role": "train",
    "architecture": "resnet18",
    "kwargs": {"channels": [8, 8, 8, 8], "layers": [1, 1, 1, 1], "stem_width": 8},
    "attributes": {"gender": ["female", "male"], "race": ["WMELH", "Black", "Indian", "Asian"]},
}


@pytest.fixture(scope="module")
def judge():
    torch.manual_seed(0)
    judge = build_judge(CONFIG)
    for parameter in judge.network.parameters():  # what half precision can hold, so that nothing is rounded
        parameter.data = parameter.data.half().float()
    judge.network.eval()
    return judge


@pytest.fixture(scope="module")
def saved(judge, tmp_path_factory):
    directory = tmp_path_factory.mktemp("judge")
    save_judge(judge, directory, {"gender": 0.99})
    return directory


@pytest.fixture
def copy(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "copy")


def edit(directory, **changes):
    path = directory / "judge.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_saved_judge_says_the_same(judge, saved):
    images = torch.rand(3, 3, 64, 64)
    loaded = load_judge(saved)
    torch.testing.assert_close(loaded.logits(images), judge.logits(images))
    assert (loaded.name, loaded.attributes) == (judge.name, judge.attributes)
    assert loaded.description.measured == {"gender": 0.99}


def test_weights_are_stored_in_half_and_loaded_in_single_precision(saved):
    assert {t.dtype for t in load_file(saved / "model.safetensors").values()} == {torch.float16, torch.int64}
    network = load_judge(saved).network
    assert {p.dtype for p in network.parameters()} == {torch.float32}
    assert not network.training and not any(p.requires_grad for p in network.parameters())


def test_the_sha256_follows_description_and_weights(saved, copy):
    first = load_judge(saved)
    assert load_judge(copy).sha256 == first.sha256
    edit(copy, name="renamed")
    renamed = load_judge(copy)
    assert renamed.sha256 != first.sha256 and renamed.weights == first.weights
    tensors = load_file(copy / "model.safetensors")
    tensors["face.bias"] += 1
    save_file(tensors, copy / "model.safetensors")
    assert load_judge(copy).weights != first.weights


def test_an_unknown_name_is_answered_with_the_nearest(tmp_path, monkeypatch, saved):
    monkeypatch.setattr("fairbench.networks._PACKAGED", tmp_path)
    shutil.copytree(saved, tmp_path / "judges" / "portraits-train")
    assert list_judges() == ["portraits-train"] and load_judge("portraits-train").name == "tiny"
    with pytest.raises(UserError, match="unknown judge 'portrait-train': did you mean 'portraits-train'"):
        load_judge("portrait-train")


def test_a_directory_without_a_description_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"has no judge\.json"):
        load_judge(tmp_path)


def test_missing_weights_and_pickles_are_told_apart(copy):
    (copy / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"has no model\.safetensors$"):
        load_judge(copy)
    (copy / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(UserError, match=r"pytorch_model\.bin is a pickle, which is never read"):
        load_judge(copy)


@pytest.mark.parametrize("damage", [lambda data: b"\x80\x04." + data, lambda data: data[: len(data) // 2]])
def test_a_pickle_or_half_a_file_under_the_right_name_is_refused(copy, damage):
    path = copy / "model.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match="is not a whole safetensors file"):
        load_judge(copy)


@pytest.mark.parametrize(
    "attributes",
    [
        {"gender": ["female", "male", "other"], "race": CONFIG["attributes"]["race"]},
        {"gender": ["female", "male"]},
        {**CONFIG["attributes"], "age": ["young", "old"]},
    ],
)
def test_labels_that_do_not_match_the_weights_are_refused(copy, attributes):
    edit(copy, attributes=attributes)
    with pytest.raises(UserError, match="does not fit its description: heads"):
        load_judge(copy)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attributes": {"gender": [0, 1]}}, "valid string"),
        ({"attributes": {"gender": ["female", None]}}, "valid string"),
        ({"attributes": {"gender": "female"}}, "valid array"),
        ({"attributes": {"gender": ["female"]}}, "at least 2"),
        ({"attributes": {"gender": ["female", "female"]}}, "name each label once"),
        ({"attributes": {"face": ["no", "yes"]}}, "it is no attribute"),
        ({"attributes": {}}, "at least 1"),
        ({"role": "both"}, "role"),
        ({"name": "a/b"}, "name"),
        ({"schema_version": 2}, "schema_version"),
        ({"architectur": "resnet18"}, "did you mean 'architecture'"),
        ({"architecture": "resnet_18"}, "unknown timm architecture 'resnet_18': did you mean"),
        ({"architecture": "hf-hub:someone/something"}, "unknown timm architecture"),
        ({"kwargs": {"checkpoint_path": "weights.pth"}}, "take out checkpoint_path"),
        ({"kwargs": {"pretrained": True}}, "take out pretrained"),
        ({"kwargs": {"colour": "red"}}, "timm cannot build resnet18"),
    ],
)
def test_a_faulty_description_is_one_line_about_the_key(copy, changes, message):
    edit(copy, **changes)
    with pytest.raises(UserError) as error:
        load_judge(copy)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_description_that_is_no_json_is_refused(copy):
    (copy / "judge.json").write_text("{")
    with pytest.raises(UserError, match=r"judge\.json: .*JSON"):
        load_judge(copy)


def test_weights_that_half_precision_cannot_hold_are_not_written(judge, tmp_path):
    big = build_judge(CONFIG)
    big.network.face.weight.data.fill_(1e6)
    with pytest.raises(ValueError, match=r"face\.weight is not finite"):
        save_judge(big, tmp_path / "big", {})
    assert not (tmp_path / "big").exists()


def test_listing_judges_imports_nothing_heavy():
    code = (
        "import sys; from fairbench.judges import list_judges; list_judges(); print('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
