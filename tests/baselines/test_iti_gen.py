"""Learned words: the losses against hand computation, the text features against CLIP's own."""

from itertools import product

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch.testing import assert_close

from fairbench.attributes import AttributeSpace
from fairbench.baselines.iti_gen import ItiGen, direction_loss, joint_vectors, matching_clip, text_features
from fairbench.errors import UserError
from fairbench.features import build_features
from fairbench.features.convert import clip_text_model
from fairbench.intervention import Intervention
from tests.finetuning.stand_ins import Coarse, make_context, tiny_model
from tests.tiny import tiny_tokenizer

TEXT = {"context_length": 16, "width": 16, "heads": 2, "layers": 2}
VISION = {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "head_width": 32}


@pytest.fixture
def pair():
    """A tiny model whose text encoder is the text tower of a tiny CLIP, and that CLIP."""
    tokenizer = tiny_tokenizer()
    text = TEXT | {"vocab_size": len(tokenizer)}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        kwargs = {"embed_dim": 24, "vision_cfg": VISION, "text_cfg": text}
        clip = build_features({"name": "clip", "kind": "open_clip", "kwargs": kwargs}, tokenizer)
    clip.network.eval().requires_grad_(False)
    model = tiny_model()
    model.pipeline.text_encoder = clip_text_model(clip.network).requires_grad_(False)
    return model, clip


def test_text_features_are_those_of_clip(pair):
    model, clip = pair
    prompts = ["face of a cook", "face"]
    theirs = torch.nn.functional.normalize(clip.text(prompts), dim=-1)
    assert_close(text_features(model, clip, prompts), theirs, atol=1e-5, rtol=1e-4)
    assert matching_clip(model, [Coarse, clip][1:]) is clip


def test_a_model_with_another_text_encoder_is_refused(pair):
    _, clip = pair
    with pytest.raises(UserError, match="whose text tower is the text encoder of tiny"):
        matching_clip(tiny_model(), [clip])


def test_the_direction_loss_by_hand():
    space = AttributeSpace(("gender", "race"))
    generator = torch.Generator().manual_seed(0)
    images = {
        "gender": torch.randn(2, 5, generator=generator),
        "race": torch.randn(4, 5, generator=generator),
    }
    texts = torch.randn(8, 5, generator=generator)

    def cosine(a, b):
        return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))

    losses = []
    for axis, name in enumerate(space.names):
        members = {
            k: [index for index, pair in enumerate(product(range(2), range(4))) if pair[axis] == k]
            for k in range(len(space.classes[name]))
        }
        for i, j in ((i, j) for i in members for j in members if i < j):
            texts_apart = texts[members[i]].mean(0) - texts[members[j]].mean(0)
            losses.append(1 - cosine((images[name][i] - images[name][j]).numpy(), texts_apart.numpy()))
    assert len(losses) == 1 + 6
    assert float(direction_loss(space, images, texts)) == pytest.approx(np.mean(losses), rel=1e-5)


def test_the_word_of_an_intersection_is_the_sum_of_those_of_its_classes():
    space = AttributeSpace(("gender", "age"))
    vectors = {"gender": torch.randn(2, 3, 4), "age": torch.randn(2, 3, 4)}
    joint = joint_vectors(space, vectors)
    assert_close(joint[1], vectors["gender"][0] + vectors["age"][1])
    assert_close(joint[2], vectors["gender"][1] + vectors["age"][0])


def test_training_turns_the_words_to_the_direction_of_the_pictures(pair, tmp_path, monkeypatch):
    from fairbench.baselines import iti_gen

    model, clip = pair
    references = torch.eye(24)[:2]
    monkeypatch.setattr(iti_gen, "_class_features", lambda *_: references)
    rows = []
    context = make_context(tmp_path, model, features=[clip], updates=60, log=rows.append)
    before = model.encode(["face of a cook"]).conditional
    intervention = ItiGen(ItiGen.Config(vectors=1, prompts_per_update=2, learning_rate=0.05)).fit(context)
    assert rows[-1]["loss_direction"] < 0.8 * rows[0]["loss_direction"]
    assert {word: tuple(rows.shape) for word, rows in intervention.embeddings.items()} == {
        "<inclusive-0>": (1, 16), "<inclusive-1>": (1, 16),
    }  # fmt: skip
    assert torch.equal(model.encode(["face of a cook"]).conditional, before)
    assert len(model.pipeline.tokenizer) == len(tiny_tokenizer())


def test_a_training_that_was_stopped_says_how_far_it_came(pair, tmp_path, monkeypatch):
    from fairbench.baselines import iti_gen

    model, clip = pair
    monkeypatch.setattr(iti_gen, "_class_features", lambda *_: torch.eye(24)[:2])
    context = make_context(tmp_path, model, features=[clip], updates=4, log=lambda row: row["update"] == 3)
    learnt = ItiGen(ItiGen.Config(vectors=1, prompts_per_update=2)).fit(context)
    assert learnt.settings["updates"] == 3


def test_the_drawn_word_is_appended(pair):
    model, _ = pair
    words = {f"<inclusive-{k}>": torch.randn(2, 16) for k in range(2)}
    intervention = Intervention("iti_gen", "drawn", embeddings=words)
    with ItiGen(ItiGen.Config()).apply(intervention, model, lambda seeds: [1, 0]) as hooks:
        assert hooks.rewrite(["face", "cook"], [3, 4]) == ["face <inclusive-1>", "cook <inclusive-0>"]


@pytest.mark.parametrize("setting", [{"vectors": 0}, {"similarity": 1.5}, {"learning_rate": float("inf")}])
def test_settings_out_of_range_are_refused(setting):
    with pytest.raises(ValidationError):
        ItiGen.Config(**setting)
