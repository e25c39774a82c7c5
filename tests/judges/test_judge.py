from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fairbench.attributes import AttributeSpace
from fairbench.errors import UserError
from fairbench.judges import Judge, build_judge, check_covers, refuse_training_judge

SMALL = {"channels": [8, 8, 8, 8], "layers": [1, 1, 1, 1], "stem_width": 8}


def make_judge(name="tiny", seed=0, **changes) -> Judge:
    torch.manual_seed(seed)
    config = {
        "name": name,
        "role": "evaluation",
        "architecture": "resnet18",
        "kwargs": SMALL,
        "attributes": {
            "gender": ["female", "male"],
            "race": ["WMELH", "Black", "Indian", "Asian"],
            "concept": ["nurse", "pilot", "cook"],
        },
    }
    judge = build_judge(config | changes)
    judge.network.eval()
    return judge


@pytest.fixture(scope="module")
def judge():
    return make_judge()


@pytest.fixture(scope="module")
def images():
    return torch.rand(5, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def test_the_judgement_is_softmax_and_sigmoid_of_the_logits(judge, images):
    judgement = judge.judge(images)
    logits = {name: values.detach().double().numpy() for name, values in judge.logits(images).items()}
    for name, probabilities in judgement.probabilities.items():
        powers = np.exp(logits[name])
        np.testing.assert_allclose(probabilities, powers / powers.sum(1, keepdims=True), atol=1e-6)
    np.testing.assert_allclose(judgement.face, 1 / (1 + np.exp(-logits["face"])), atol=1e-6)
    assert {name: values.shape[1] for name, values in judgement.probabilities.items()} == {
        "gender": 2,
        "race": 4,
        "concept": 3,
    }


@settings(max_examples=8, deadline=None)
@given(batch_size=st.integers(1, 7), order=st.permutations(range(5)))
def test_batches_and_order_make_no_difference(judge, images, batch_size, order):
    whole, parts = judge.judge(images), judge.judge(images[list(order)], batch_size=batch_size)
    torch.testing.assert_close(parts.face, whole.face[list(order)])
    torch.testing.assert_close(parts.probabilities["race"], whole.probabilities["race"][list(order)])


def test_no_images_are_judged_too(judge):
    judgement = judge.judge(torch.zeros(0, 3, 64, 64))
    assert judgement.face.shape == (0,) and judgement.probabilities["race"].shape == (0, 4)


def test_gradients_reach_the_images(judge, images):
    pixels = images.clone().requires_grad_()
    network = judge.network
    by_hand = network.heads["of_race"](network.backbone(pixels * 2 - 1))[0, 1]
    gradient = torch.autograd.grad(judge.logits(pixels)["race"][0, 1], pixels)[0]
    torch.testing.assert_close(gradient, torch.autograd.grad(by_hand, pixels)[0])
    assert gradient[0].abs().sum() > 0 and gradient[1:].abs().sum() == 0


def test_a_judgement_may_enter_a_computation_with_gradients(judge, images):
    probabilities = judge.judge(images).probabilities["gender"]
    weight = torch.ones(2, requires_grad=True)
    (probabilities * weight).sum().backward()
    torch.testing.assert_close(weight.grad, probabilities.sum(0))


def test_images_of_another_size_are_scaled(judge, images):
    large = images.repeat_interleave(4, dim=2).repeat_interleave(4, dim=3)
    torch.testing.assert_close(judge.judge(large).face, judge.judge(images).face, atol=2e-2, rtol=0)


@pytest.mark.parametrize(
    "wrong",
    [torch.zeros(2, 3, 64, 64, dtype=torch.uint8), torch.zeros(3, 64, 64), torch.zeros(2, 1, 64, 64)],
)
def test_what_is_no_batch_of_images_is_refused(judge, wrong):
    with pytest.raises(UserError, match="N x 3 x H x W"):
        judge.judge(wrong)


def test_outputs_that_are_not_finite_name_the_judge(judge, images):
    broken = images.clone()
    broken[2, 0, 5, 5] = torch.nan
    with pytest.raises(UserError, match=r"judge tiny: .*not finite"):
        judge.judge(broken)


def test_a_judge_covers_the_attributes_it_has(judge):
    check_covers(judge, AttributeSpace.parse("gender,race"))
    with pytest.raises(UserError, match="judge tiny does not read age"):
        check_covers(judge, AttributeSpace.parse("gender,age"))
    swapped = make_judge(attributes={"gender": ["male", "female"]})
    with pytest.raises(UserError, match="reads gender as male, female, not as female, male"):
        check_covers(swapped, AttributeSpace.parse("gender"))


def test_the_training_judge_may_not_evaluate(judge):
    def on_disk(sha256, weights):
        return Judge(judge.description, SimpleNamespace(), sha256, frozenset(weights))

    refuse_training_judge([on_disk("a", "1"), on_disk("b", "2")], on_disk("c", "3"))
    for training in (on_disk("b", "2"), on_disk("renamed", "2")):
        with pytest.raises(UserError, match="cannot evaluate it"):
            refuse_training_judge([on_disk("a", "1"), on_disk("b", "2")], training)
