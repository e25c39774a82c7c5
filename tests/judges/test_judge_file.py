import json
import re
import shutil
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from open_clip.tokenizer import SimpleTokenizer
from safetensors.torch import load_file, save_file

from fairbench.attributes import ATTRIBUTES, AttributeSpace
from fairbench.errors import UserError
from fairbench.finetuning.faces import DetectedFaces
from fairbench.judges import check_covers, load_judge, refuse_training_judge, save_judge
from fairbench.judges.judge_file import JudgeFile
from fairbench.networks import sha256_of
from tests.judges.checkpoints import (
    AGES,
    FAIRFACE,
    GENDERS,
    RACES,
    save_clip,
    save_resnet,
    save_timm,
    save_torchvision,
    save_vit,
    write_judge,
)

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
SEEN = {"image_size": 32, "mean": MEAN, "std": STD}
FAIRFACE_MAP = {"outputs": list(FAIRFACE), "attributes": {"race": RACES, "gender": GENDERS, "age": AGES}}
VIT = {"kind": "transformers", "source": "vit", "attributes": {"gender": GENDERS}}
SUMS = {
    "race": [[0, 2, 6], [1], [5], [3, 4]],
    "gender": [[8], [7]],
    "age": [list(range(9, 15)), list(range(15, 18))],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("networks")


@pytest.fixture(scope="module")
def vit(folder):
    return save_vit(folder / "vit")


@pytest.fixture
def copy(folder, vit, tmp_path):
    shutil.copytree(folder / "vit", tmp_path / "vit")
    return tmp_path


@pytest.fixture(scope="module")
def images():
    return torch.rand(5, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def normalised(images, mean=MEAN, std=STD):
    return (images - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)


def summed(logits):
    """The probabilities of a FairFace head as its authors have them: a softmax in each part of the vector."""
    parts = {"race": logits[:, :7], "gender": logits[:, 7:9], "age": logits[:, 9:]}
    starts = {"race": 0, "gender": 7, "age": 9}
    return {
        name: torch.stack(
            [part.softmax(1)[:, [j - starts[name] for j in each]].sum(1) for each in SUMS[name]], 1
        )
        for name, part in parts.items()
    }


def test_a_transformers_classifier_with_its_own_names_and_normalisation(folder, vit, images):
    judge = load_judge(write_judge(folder / "vit.yaml", VIT))
    with torch.no_grad():
        expected = vit(normalised(images, [0.5, 0.4, 0.3], [0.2, 0.3, 0.4])).logits.softmax(1).flip(1)
    judgement = judge.judge(images)
    torch.testing.assert_close(judgement.probabilities["gender"], expected)
    assert expected.std(0).min() > 0.01 and judgement.face.min() > 0.99999
    assert judge.name == "mine" and judge.attributes == {"gender": ("female", "male")}
    check_covers(judge, AttributeSpace.parse("gender"))


@pytest.mark.parametrize("kind", ["transformers", "timm", "torchvision"])
def test_one_head_of_eighteen_is_merged_by_summing_probabilities(folder, images, kind):
    save = {
        "transformers": save_resnet,
        "timm": save_timm,
        "torchvision": lambda place: save_torchvision(place, "resnet18", 18),
    }[kind]
    network = save(folder / f"fairface-{kind}")
    stated = {"architecture": "resnet18"} if kind == "torchvision" else {}
    settings = {"kind": kind, "source": f"fairface-{kind}", **FAIRFACE_MAP, **SEEN, **stated}
    judge = load_judge(write_judge(folder / f"{kind}.yaml", settings))
    with torch.no_grad():
        outputs = network(normalised(images))
    expected = summed(getattr(outputs, "logits", outputs))
    found = judge.judge(images).probabilities
    for name, probabilities in expected.items():
        torch.testing.assert_close(found[name], probabilities)
        assert judge.attributes[name] == ATTRIBUTES[name]


def test_timm_states_size_and_normalisation_itself(folder):
    save_timm(folder / "timm")
    judge = load_judge(write_judge(folder / "t.yaml", {"kind": "timm", "source": "timm", **FAIRFACE_MAP}))
    reader = judge.network.readers[0]
    assert reader.image_size == 160 and reader.normalise.mean.flatten().tolist() == [0.5] * 3


def test_the_papers_mobilenet_uses_two_of_its_eighty_outputs(folder, images):
    network = save_torchvision(folder / "celeba", "mobilenet_v3_large", 80)
    names = [f"{place // 2}:{place % 2}" for place in range(80)]
    settings = {
        "kind": "torchvision",
        "source": "celeba",
        "architecture": "mobilenet_v3_large",
        "outputs": names,
        "attributes": {"gender": {"female": "20:0", "male": "20:1"}},
        "unused": "rest",
        **SEEN,
    }
    judge = load_judge(write_judge(folder / "celeba.yaml", settings))
    with torch.no_grad():
        expected = network(normalised(images)).view(5, 40, 2)[:, 20].softmax(1)
    torch.testing.assert_close(judge.judge(images).probabilities["gender"], expected)


@pytest.fixture(scope="module")
def clip(folder):
    return save_clip(folder / "clip")


PROMPTS = {"gender": {"male": ["a photo of a man", "a boy"], "female": "a photo of a woman"}}


def test_clip_counts_the_nearest_prompts(folder, clip, images):
    judge = load_judge(
        write_judge(folder / "clip.yaml", {"kind": "open_clip", "source": "clip", "attributes": PROMPTS})
    )
    tokenizer = SimpleTokenizer()
    with torch.no_grad():
        texts = F.normalize(
            clip.encode_text(tokenizer(["a photo of a woman", "a photo of a man", "a boy"])), dim=1
        )
        directions = F.normalize(torch.stack([texts[0], (texts[1] + texts[2]) / 2]), dim=1)
        seen = F.normalize(
            clip.encode_image(normalised(images, [0.48, 0.46, 0.41], [0.27, 0.26, 0.28])), dim=1
        )
        expected = (clip.logit_scale.exp() * seen @ directions.T).softmax(1)
    torch.testing.assert_close(judge.judge(images).probabilities["gender"], expected)


def test_networks_that_read_the_same_attribute_vote(folder, vit, images):
    save_vit(folder / "vit2", seed=1)
    one, other = ({**VIT, "source": source} for source in ("vit", "vit2"))
    alone = [
        load_judge(write_judge(folder / "one.yaml", each)).judge(images).probabilities["gender"]
        for each in (one, other)
    ]
    panel = load_judge(write_judge(folder / "panel.yaml", one, other, {"kind": "skin_tone"}))
    judgement = panel.judge(images)
    torch.testing.assert_close(judgement.probabilities["gender"], sum(alone) / 2)
    assert (alone[0] - alone[1]).abs().max() > 0.01
    assert list(panel.attributes) == ["gender", "skin_tone"]
    grey, skin = (
        torch.full((3, 32, 32), 0.5),
        torch.tensor([0.63, 0.49, 0.34]).view(3, 1, 1).expand(3, 32, 32),
    )
    # where no skin can be read, the image cannot be used for both
    assert panel.judge(torch.stack([grey, skin])).face.tolist() == pytest.approx([0, 1], abs=1e-5)


@pytest.fixture
def detector(monkeypatch):
    """OpenCV with a YuNet that sees a face of 8 x 16 pixels at (8, 4) in every picture but black ones."""
    cv2 = ModuleType("cv2")
    cv2.error = type("error", (Exception,), {})

    class YuNet:
        create = classmethod(lambda cls, *arguments: cls())
        setInputSize = staticmethod(lambda size: None)

        @staticmethod
        def detect(picture):
            row = [8, 4, 8, 16, *range(10), 0.8]
            return 1, np.array([row], dtype=np.float32) if picture.any() else None

    cv2.FaceDetectorYN = YuNet
    monkeypatch.setitem(sys.modules, "cv2", cv2)


def faces(folder, **changes):
    (folder / "yunet.onnx").write_bytes(b"an onnx file")
    return {"kind": "yunet", "file": "yunet.onnx", "sha256": sha256_of(b"an onnx file")} | changes


def test_networks_see_the_crop_of_the_face_and_nothing_else(folder, vit, images, detector):
    judge = load_judge(write_judge(folder / "faces.yaml", VIT, faces=faces(folder)))
    shown = images.clone()
    shown[4] = 0
    judgement = judge.judge(shown)
    assert judgement.face.tolist() == pytest.approx([0.8] * 4 + [1e-6], rel=1e-3)
    # centre (12, 12), side 1.5 x 16: the square from 0 to 24
    alone = load_judge(write_judge(folder / "whole.yaml", VIT))
    torch.testing.assert_close(
        judgement.probabilities["gender"][:4],
        alone.judge(F.interpolate(shown[:4, :, :24, :24], (32, 32), mode="bilinear")).probabilities["gender"],
        atol=2e-2,
        rtol=0,
    )
    pixels = shown.requires_grad_()
    judge.logits(pixels)["gender"][:4, 0].sum().backward()
    touched = pixels.grad[:4].abs().sum((0, 1)) > 0
    assert touched[:24, :24].all() and not touched[25:].any() and not touched[:, 25:].any()


def test_the_faces_of_the_face_loss_are_those_that_the_judge_sees(folder, images, detector):
    judge = load_judge(write_judge(folder / "faces.yaml", VIT, faces=faces(folder)))
    shown = images.clone()
    shown[4] = 0
    found = DetectedFaces(*judge.detector, network=None, pictures=list, sha256="").find(shown).boxes
    assert found.tolist() == [[0, 0, 24, 24]] * 4 + [[0] * 4]
    whole = load_judge(write_judge(folder / "whole.yaml", VIT))
    found = DetectedFaces(*whole.detector, network=None, pictures=list, sha256="").find(shown).boxes
    assert found.tolist() == [[0, 0, 32, 32]] * 5


def test_a_network_on_the_hub_is_fetched_at_its_commit_and_nothing_else_of_it(copy, monkeypatch):
    asked = []

    def fetch(repository, revision, allow_patterns):
        asked.append((repository, revision, sorted(allow_patterns)))
        return str(copy / "vit")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    commit = "0123456789abcdef" * 2 + "01234567"
    load_judge(write_judge(copy / "mine.yaml", {**VIT, "source": f"their-org/their.net@{commit}"}))
    files = ["config.json", "model.safetensors", "preprocessor_config.json"]
    assert asked == [("their-org/their.net", commit, files)]


def test_the_sha256_covers_the_judge_file_the_detector_and_every_file_of_a_network(copy, detector):
    path = write_judge(copy / "mine.yaml", VIT, faces=faces(copy))
    first = load_judge(path)
    assert load_judge(path).sha256 == first.sha256
    seen = {first.sha256}
    path.write_text(path.read_text() + "# a remark\n")
    seen.add(load_judge(path).sha256)
    settings = json.loads((copy / "vit" / "preprocessor_config.json").read_text())
    (copy / "vit" / "preprocessor_config.json").write_text(json.dumps(settings | {"image_mean": [0.1] * 3}))
    seen.add(load_judge(path).sha256)
    assert load_judge(path).weights == first.weights
    tensors = load_file(copy / "vit" / "model.safetensors")
    tensors["classifier.bias"] += 1
    save_file(tensors, copy / "vit" / "model.safetensors", metadata={"format": "pt"})
    seen.add(load_judge(path).sha256)
    assert load_judge(path).weights != first.weights
    (copy / "yunet.onnx").write_bytes(b"another")
    path.write_text(path.read_text().replace(sha256_of(b"an onnx file"), sha256_of(b"another")))
    seen.add(load_judge(path).sha256)
    assert len(seen) == 5


def test_a_network_that_trains_may_not_evaluate_within_any_judge_file(folder, vit):
    save_vit(folder / "third", seed=2)
    training = load_judge(write_judge(folder / "training.yaml", VIT))
    panel = load_judge(write_judge(folder / "both.yaml", {**VIT, "source": "third"}, VIT))
    held_out = load_judge(write_judge(folder / "held_out.yaml", {**VIT, "source": "third"}))
    refuse_training_judge([held_out], training)
    with pytest.raises(UserError, match="cannot evaluate it"):
        refuse_training_judge([held_out, panel], training)
    one, other = (
        load_judge(write_judge(folder / f"{name}.yaml", {"kind": "skin_tone"})) for name in ("one", "other")
    )
    with pytest.raises(UserError, match="cannot evaluate it"):
        refuse_training_judge([one], other)


def test_it_is_frozen_and_gradients_reach_the_images(folder, vit, images):
    judge = load_judge(write_judge(folder / "vit.yaml", VIT))
    assert not judge.network.training and not any(p.requires_grad for p in judge.network.parameters())
    pixels = images.clone().requires_grad_()
    judge.logits(pixels)["gender"][0, 0].backward()
    assert pixels.grad[0].abs().sum() > 0 and not pixels.grad[1:].any()
    with pytest.raises(TypeError, match="no weights of its own"):
        save_judge(judge, folder / "saved", {})


def test_images_of_another_shape_are_refused(folder, vit):
    with pytest.raises(UserError, match="N x 3 x H x W"):
        load_judge(write_judge(folder / "vit.yaml", VIT)).judge(torch.zeros(3, 8, 8))


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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_cfg": None}, "must hold model_cfg"),
        ({"preprocess_cfg": {}}, "preprocess_cfg with mean and std"),
        ({"text_cfg": {"hf_tokenizer_name": "org/name"}}, "a tokenizer of its own"),
        ({"text_cfg": {"context_length": 4}}, "reads 4 tokens, but the prompt 'a photo of a woman' has 7"),
        ({"vision_cfg": {"timm_model_name": "resnet18"}}, "take out timm_model_name"),
        ({"attributes": {"gender": {"female": "a woman", "male": []}}}, "at least one"),
    ],
)
def test_a_clip_that_cannot_be_read_faithfully_is_refused(folder, clip, tmp_path, change, message):
    shutil.copytree(folder / "clip", tmp_path / "clip")
    path = tmp_path / "clip" / "open_clip_config.json"
    config = json.loads(path.read_text())
    for part in ("text_cfg", "vision_cfg"):
        config["model_cfg"][part] |= change.get(part, {})
    path.write_text(json.dumps(config | {key: change[key] for key in change.keys() & config.keys()}))
    if change.get("text_cfg", {}).get("context_length"):
        tensors = load_file(tmp_path / "clip" / "open_clip_model.safetensors")
        tensors["positional_embedding"] = tensors["positional_embedding"][:4].clone()
        save_file(tensors, tmp_path / "clip" / "open_clip_model.safetensors")
    settings = {"kind": "open_clip", "source": "clip", "attributes": change.get("attributes", PROMPTS)}
    with pytest.raises(UserError) as error:
        load_judge(write_judge(tmp_path / "mine.yaml", settings))
    assert message in str(error.value) and "\n" not in str(error.value)


def test_the_examples_in_the_manual_are_judge_files():
    text = (Path(__file__).parents[2] / "docs" / "judges.md").read_text(encoding="utf-8")
    examples = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    names = [JudgeFile.model_validate(yaml.safe_load(example)).name for example in examples]
    assert len(names) >= 3
