"""Swapping parts, with a model whose parts do something that is known."""

from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from fairbench.diagnostics.components import Bench, attribute, only, parts_of
from fairbench.errors import UserError
from fairbench.intervention import Intervention
from fairbench.judges.judge import Judgement
from fairbench.models.hooks import Hooks

PROMPTS, IMAGES = 6, 8
WEIGHTS = {"text_encoder.a.lora_A.weight": torch.ones(1), "unet.b.lora_A.weight": torch.ones(1)}
PREFIX = {"<fair>": torch.ones(5, 4)}


def intervention(tensors=WEIGHTS, embeddings=PREFIX):
    return Intervention("made_up", "emergent", tensors=tensors, embeddings=embeddings)


class Painter:
    """Paints one number over a whole picture: which parts are tuned, and the seed."""

    tuned: frozenset = frozenset()

    def generate(self, prompts, seeds, *, steps, guidance, batch_size, hooks):
        assert isinstance(hooks, Hooks) and (steps, guidance) == (3, 2.0)
        # of eight seeds per prompt, the original model shows a man in all, and every tuned part changes some
        changed = {"text_encoder": 2, "unet": 1, "prefix": 0}
        women = sum(changed[part] for part in self.tuned) + (len(self.tuned) == 3)
        shades = [0.25 if seed % IMAGES < women else 0.75 for seed in seeds]
        return torch.tensor(shades).reshape(-1, 1, 1, 1).expand(-1, 3, 2, 2)


class Judge:
    name, attributes = "made-up", {"gender": ("female", "male"), "concept": ("p0", "p1", "p2")}

    def judge(self, images):
        woman = images[:, 0, 0, 0] < 0.5
        gender = torch.stack([woman, ~woman], 1).float()
        concept = torch.eye(3)[torch.arange(len(images)) // IMAGES % 3]
        return Judgement({"gender": gender, "concept": concept}, torch.ones(len(images)))


class Shade:
    name = "shade"

    def batched(self, images):
        woman = (images[:, 0, 0, 0] < 0.5).float()
        return torch.stack([1 - woman, woman], 1)


@pytest.fixture
def bench():
    return Bench(
        model=Painter(),
        prompts=[SimpleNamespace(text=f"p{k}", concept=f"p{k}") for k in range(PROMPTS)],
        seeds=[range(IMAGES)] * PROMPTS,
        targets={"gender": (0.5, 0.5)},
        judge=Judge(),
        features=[Shade()],
        steps=3,
        guidance=2.0,
    )


def apply_to(bench):
    @contextmanager
    def apply(some):
        bench.model.tuned = frozenset(parts_of(some))
        yield Hooks()
        bench.model.tuned = frozenset()

    return apply


def test_every_part_gets_what_it_does_and_an_effect_of_all_together_is_shared_out(bench):
    found = attribute(intervention(), bench, apply_to(bench))
    assert found["parts"] == ["text_encoder", "unet", "prefix"]
    bias = found["quantities"]["bias of gender"]
    # women: 2 of 8 by the text encoder, 1 by the U-Net, 1 by all three together; bias 1 - 2 women / 8
    assert (bias["before"], bias["after"], bias["prompts"]) == (1.0, 0.0, PROMPTS)
    expected = {"text_encoder": -(2 + 1 / 3) / 4, "unet": -(1 + 1 / 3) / 4, "prefix": -1 / 12}
    for part, effect in expected.items():
        row = bias["parts"][part]
        assert row["effect"] == pytest.approx(effect)
        assert row["share"] == pytest.approx(-effect)
        assert row["interval"] == pytest.approx((effect, effect))  # all prompts are alike
    distance = found["quantities"]["distance by shade"]
    assert (distance["before"], distance["after"]) == pytest.approx((0.0, 0.5))
    assert len(found["subsets"]) == 8
    assert found["subsets"][3]["tuned"] == ["prefix"]
    assert found["subsets"][3]["bias of gender"] == 1.0


def test_bias_is_measured_from_the_target_of_the_run(bench):
    asked = replace(bench, targets={"gender": (0.25, 0.75)})
    bias = attribute(intervention(), asked, apply_to(asked))["quantities"]["bias of gender"]
    # shares of women and men (0, 1) before and (1/2, 1/2) after, each a quarter off in either class
    assert (bias["before"], bias["after"]) == (0.5, 0.5)


def test_prompts_that_a_judge_does_not_know_are_left_out_and_no_change_has_no_shares(bench):
    recognised = attribute(intervention(), bench, apply_to(bench))["quantities"]["not recognised"]
    assert recognised["prompts"] == 3
    assert recognised["before"] == recognised["after"] == 0
    assert {row["share"] for row in recognised["parts"].values()} == {None}


def test_one_part_has_it_all(bench):
    only_text = intervention({"text_encoder.a.lora_A.weight": torch.ones(1)}, {})
    bias = attribute(only_text, bench, apply_to(bench))["quantities"]["bias of gender"]
    assert bias["parts"]["text_encoder"]["share"] == pytest.approx(1)
    assert len(bias["parts"]) == 1


def test_only_keeps_what_is_named():
    whole = intervention()
    assert list(only(whole, frozenset({"unet"})).tensors) == ["unet.b.lora_A.weight"]
    assert only(whole, frozenset({"unet"})).embeddings == {}
    kept = only(whole, frozenset({"prefix"}))
    assert (kept.tensors, kept.embeddings) == ({}, PREFIX)
    assert only(whole, frozenset(parts_of(whole))) == whole


def test_a_method_without_weights_is_refused():
    with pytest.raises(UserError, match="made_up has tuned no part"):
        parts_of(intervention({}, {}))


def test_a_prompt_without_a_face_has_no_bias(bench, monkeypatch):
    see = Judge.judge

    def blind_to_the_first(self, images):
        seen = see(self, images)
        return Judgement(seen.probabilities, seen.face * (torch.arange(len(images)) >= IMAGES))

    monkeypatch.setattr(Judge, "judge", blind_to_the_first)
    bias = attribute(intervention(), bench, apply_to(bench))["quantities"]["bias of gender"]
    assert bias["prompts"] == PROMPTS - 1 and bias["before"] == 1.0
