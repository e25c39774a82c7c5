import json

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from fairbench.errors import UserError
from fairbench.finetuning.faces import DetectedFaces
from fairbench.judges import load_judge, refuse_training_judge, save_judge
from fairbench.judges.skin_tone import MONK
from fairbench.networks import sha256_of
from tests.judges.checkpoints import (
    VIT,
    faces,
    save_vit,
    write_judge,
)


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


def test_a_tight_reader_sees_the_box_and_not_the_square_around_it(folder, vit, detector):
    """The detector's box is 8 wide and 16 high, from (8, 4); the others see 24 x 24."""
    judge = load_judge(
        write_judge(folder / "tight.yaml", VIT, {"kind": "skin_tone"}, faces=faces(folder, enlarge=1.5))
    )
    light, dark = (torch.tensor(list(bytes.fromhex(MONK[tone]))).view(3, 1, 1) / 255 for tone in (3, 8))
    image = dark.expand(3, 32, 32).clone()
    image[:, 4:20, 8:16] = light
    assert judge.judge(image[None]).probabilities["skin_tone"].argmax(1).tolist() == [3]
    pixels = image[None].clone().requires_grad_()
    judge.logits(pixels)["gender"][:, 0].sum().backward()
    assert (pixels.grad.abs().sum((0, 1)) > 0)[:24, :24].all()


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
