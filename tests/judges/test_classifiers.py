import json

import pytest
import torch
from transformers import ViTForImageClassification

from fairbench.attributes import ATTRIBUTES, AttributeSpace
from fairbench.judges import check_covers, load_judge
from tests.judges.checkpoints import (
    FAIRFACE_MAP,
    SEEN,
    VIT,
    normalised,
    save_resnet,
    save_timm,
    save_torchvision,
    write_judge,
)

SUMS = {
    "race": [[0, 2, 6], [1], [5], [3, 4]],
    "gender": [[8], [7]],
    "age": [list(range(9, 15)), list(range(15, 18))],
}


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


def test_a_transformers_classifier_that_does_not_normalise(copy, images):
    """Mean and deviation stand in its file all the same, as transformers writes them."""
    path = copy / "vit" / "preprocessor_config.json"
    settings = json.loads(path.read_text())
    path.write_text(json.dumps(settings | {"do_normalize": False}))
    network = ViTForImageClassification.from_pretrained(copy / "vit").eval()
    with torch.no_grad():
        expected = network(images).logits.softmax(1).flip(1)
    found = load_judge(write_judge(copy / "vit.yaml", VIT)).judge(images).probabilities["gender"]
    torch.testing.assert_close(found, expected)


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
    assert (reader.image_size, reader.frame.seen) == (
        168,
        160,
    ) and reader.normalise.mean.flatten().tolist() == [0.5] * 3


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
