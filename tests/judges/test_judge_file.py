import json
import re
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file, save_file

from fairbench.errors import UserError
from fairbench.judges import load_judge
from fairbench.judges.judge_file import JudgeFile
from tests.judges.checkpoints import (
    SEEN,
    VIT,
    write_judge,
)


def network(**changes):
    return {"networks": [{key: value for key, value in (VIT | changes).items() if value is not None}]}


def detecting(**changes):
    return network() | {"faces": {"kind": "yunet", "file": "f.onnx", "sha256": "0" * 64} | changes}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"networks": []}, "at least one"),
        (network(kind="keras"), "transformers"),
        (network(sorce="vit"), "unknown key"),
        (network(attributes={"gender": {"femal": "Female", "male": "Male"}}), "did you mean 'female'"),
        (network(attributes={"gender": {"female": ["Female", "Male"]}}), "at least 2"),
        (network(attributes={"race": {"Black": "Male", "Indian": "Female"}}), "race lacks WMELH, Asian"),
        (network(attributes={"face": {"no": "Male", "yes": "Female"}}), "it is no attribute"),
        (network(attributes={"gender": {"female": "female", "male": "Male"}}), "did you mean 'Female'"),
        (network(attributes={"gender": {"female": "Male", "male": "Male"}}), "uses Male twice"),
        (network(attributes={"glasses": {"on": "Male", "off": False}}), "valid string"),
        (network(unused=["Malee"]), "did you mean 'Male'"),
        (network(outputs=["Female", "Male", "Other"]), "add them to a class, or list them under unused"),
        (network(outputs=["Female", "Male", "Other"], unused="rest"), "has 2 outputs, but 3 are named"),
        (network(outputs=["Male", "Male"]), "name each one once"),
        (network(sha256="0" * 64), "not the pinned"),
        (network(std=[1, 0, 1]), "must be above 0"),
        (network(source="nowhere"), "there is no such folder"),
        (network(source="org/name"), "the 40 digits of the commit"),
        (network(source="org/name@main"), "the 40 digits of the commit"),
        (network(source=f"org/na/me@{'0' * 40}"), "there is no such folder"),
        (network(source=f"org/name@{'0' * 40}"), "neither in the local cache nor"),
        (network(kind="timm"), "nothing beside the weights tells"),
        (network(kind="timm", architecture="hf-hub:a/b", outputs=["Female", "Male"], **SEEN), "unknown timm"),
        (
            network(kind="torchvision", architecture="alexnett", outputs=["Female", "Male"], **SEEN),
            "did you mean 'alexnet'",
        ),
        (
            network(kind="torchvision", architecture="resnet18", outputs=["Female", "Male"], **SEEN),
            "does not fit its description",
        ),
        (network(kind="open_clip"), "has no open_clip_model.safetensors"),
        (detecting(threshold=0.3), "greater than or equal to 0.5"),
        (detecting(file="../f.onnx"), "pattern"),
        (detecting(file="/f.onnx"), "pattern"),
        (detecting(file="f.pt"), "pattern"),
        (detecting(sha256=None), "sha256"),
        (detecting(), "there is no such file"),
        (detecting(file="here.onnx"), "not the pinned"),
        (network() | {"name": "a/b"}, "name"),
        (network() | {"schema_version": 2}, "schema_version"),
        (network() | {"confusion": {}}, "unknown key"),
        ({"networks": [{"kind": "skin_tone", "source": "vit"}]}, "unknown key"),
        (
            {"networks": [{**VIT, "attributes": {"hat": {a: "Female", b: "Male"}}} for a, b in ("xy", "yx")]},
            "the same classes in the same order",
        ),
    ],
)
def test_a_faulty_judge_file_is_one_line_that_says_what_to_do(copy, content, message):
    (copy / "here.onnx").write_bytes(b"an onnx file")
    path = copy / "mine.yaml"
    path.write_text(yaml.safe_dump({"name": "mine"} | content, sort_keys=False))
    with pytest.raises(UserError) as error:
        load_judge(path)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_judge_file_that_is_missing_or_no_mapping_is_refused(tmp_path):
    with pytest.raises(UserError, match="there is no such file"):
        load_judge(tmp_path / "mine.yaml")
    (tmp_path / "mine.yaml").write_text("- a\n")
    with pytest.raises(UserError, match="must hold keys"):
        load_judge(tmp_path / "mine.yaml")


def test_pickled_weights_are_never_read(copy):
    (copy / "vit" / "model.safetensors").rename(copy / "vit" / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"pytorch_model\.bin is a pickle, which is never read"):
        load_judge(write_judge(copy / "mine.yaml", VIT))


def test_code_that_comes_with_a_model_is_never_run(copy):
    config = json.loads((copy / "vit" / "config.json").read_text())
    foreign = {
        "model_type": "theirs",
        "auto_map": {"AutoConfig": "theirs.C", "AutoModelForImageClassification": "theirs.M"},
    }
    (copy / "vit" / "config.json").write_text(json.dumps(config | foreign))
    (copy / "vit" / "theirs.py").write_text("raise SystemExit('it ran')")
    with pytest.raises(UserError, match="transformers cannot load it"):
        load_judge(write_judge(copy / "mine.yaml", VIT))


def test_weights_that_are_not_all_there_are_refused_and_not_made_up(copy):
    tensors = load_file(copy / "vit" / "model.safetensors")
    del tensors["classifier.weight"]
    save_file(tensors, copy / "vit" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"the weights lack classifier\.weight"):
        load_judge(write_judge(copy / "mine.yaml", VIT))


def test_the_examples_in_the_manual_are_judge_files():
    text = (Path(__file__).parents[2] / "docs" / "judges.md").read_text(encoding="utf-8")
    examples = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    names = [JudgeFile.model_validate(yaml.safe_load(example)).name for example in examples]
    assert len(names) >= 3
