"""Several judges and feature networks look at the same images: nothing is found or scaled twice."""

import pytest
import torch

from fairbench import networks
from fairbench.features import build_features, seen_by
from fairbench.judges import build_judge, judge_all
from fairbench.judges.composed import ComposedNetwork
from fairbench.judges.description import Composition
from fairbench.judges.faces import Detections, LargestFace, upright
from fairbench.judges.judge import Judge

SIZES = {"layers": [1, 1, 1, 1], "stem_width": 8}
GENDER = ("female", "male")


class Brightness(torch.nn.Module):
    """Reads gender off the brightness of a crop."""

    tight = False

    def __init__(self, image_size):
        super().__init__()
        self.image_size = image_size
        self.register_buffer("weight", torch.ones(1))

    def forward(self, crops):
        mean = crops.mean((1, 2, 3))
        return {"gender": torch.stack([mean, -mean], 1) * self.weight}


class Counting:
    """A detector that counts the pictures it has looked at; its face is a corner of the picture."""

    def __init__(self, box):
        self.box, self.seen = box, 0

    def __call__(self, images):
        self.seen += len(images)
        boxes = torch.tensor(self.box).expand(len(images), 4)
        return Detections(boxes, torch.full((len(images),), 0.9), upright(boxes))


def composed(name, detector, *readers):
    network = ComposedNetwork(detector, 1.5, [Brightness(size) for size in readers or (8,)])
    return Judge(Composition(name, {"gender": GENDER}, {}), network)


def plain(name, size):
    description = {"name": name, "role": "evaluation", "architecture": "resnet18", "kwargs": SIZES}
    judge = build_judge(description | {"image_size": size, "attributes": {"gender": GENDER}})
    judge.network.eval()
    return judge


@pytest.fixture
def images():
    return torch.rand(5, 3, 24, 24, generator=torch.Generator().manual_seed(0))


def test_faces_are_found_once_for_all_judges_with_one_detector(images):
    one, other = Counting([0.0, 0, 10, 10]), Counting([8.0, 8, 24, 24])
    judges = [composed("a", one), composed("b", other), composed("c", one), plain("d", 16)]
    together = dict(judge_all(judges, images))
    assert (one.seen, other.seen) == (5, 5)
    for judge, judgement in together.items():
        alone = judge.judge(images)
        assert torch.equal(judgement.face, alone.face)
        assert torch.equal(judgement.probabilities["gender"], alone.probabilities["gender"])
    genders = [judgement.probabilities["gender"] for judgement in together.values()]
    assert torch.equal(genders[0], genders[2]) and not torch.equal(genders[0], genders[1])


def test_what_was_found_goes_with_its_images_through_the_batches(images):
    box = torch.arange(5.0)[:, None] + torch.tensor([0.0, 0, 9, 9])
    found = Detections(box, torch.linspace(0.5, 0.9, 5), upright(box))
    judge = composed("a", Counting([0.0, 0, 1, 1]))
    whole, parts = judge.judge(images, found=found), judge.judge(images, 2, found)
    torch.testing.assert_close(parts.probabilities["gender"], whole.probabilities["gender"])
    torch.testing.assert_close(whole.face, found.scores)
    assert judge.detector[0].seen == 0


def test_a_crop_is_cut_once_for_all_networks_of_its_size(images, monkeypatch):
    from fairbench.judges import composed as module

    sizes, crop = [], module.crop
    monkeypatch.setattr(module, "crop", lambda *args: (sizes.append(args[2]), crop(*args))[1])
    composed("panel", Counting([0.0, 0, 10, 10]), 8, 12, 8).judge(images)
    assert sizes == [8, 12]


def test_images_are_scaled_once_for_each_size(images, monkeypatch):
    sizes, interpolate = [], torch.nn.functional.interpolate

    def counted(pixels, size, **options):
        sizes.append(size)
        return interpolate(pixels, size, **options)

    judges = [plain("a", 16), plain("b", 24), plain("c", 16)]
    features = [
        build_features({"name": str(size), "kind": "timm", "architecture": "resnet18", "kwargs": SIZES,
                        "image_size": size})
        for size in (16, 24, 16, 12)
    ]  # fmt: skip
    for network in features:
        network.network.eval()
    alone = [judge.judge(images).probabilities["gender"] for judge in judges]
    monkeypatch.setattr(torch.nn.functional, "interpolate", counted)
    together = [judgement.probabilities["gender"] for _, judgement in judge_all(judges, images)]
    assert sizes == [(16, 16)]  # 24 is what they have
    assert all(map(torch.equal, together, alone))
    sizes.clear()
    seen = {network.name: values for network, values in seen_by(features, images)}
    assert sizes == [(16, 16), (12, 12)]
    assert torch.equal(seen["24"], features[1](images))


def test_gradients_go_through_the_shared_size(images):
    sizes = networks.Sizes(images.requires_grad_())
    (sizes.at(16).sum() + 2 * sizes.at(16).sum() + sizes.at(None).sum()).backward()
    direct = images.detach().clone().requires_grad_()
    (3 * networks.resized(direct, 16).sum() + direct.sum()).backward()
    torch.testing.assert_close(images.grad, direct.grad)


def test_a_detector_is_known_by_what_it_is():
    find = lambda picture: picture  # noqa: E731
    assert LargestFace(find, "a") == LargestFace(len, "a") != LargestFace(find, "b")
