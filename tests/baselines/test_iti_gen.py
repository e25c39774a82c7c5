"""Learned words: the losses against hand computation, the text features against CLIP's own."""

from itertools import combinations

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch.testing import assert_close

from fairbench.attributes import AttributeSpace
from fairbench.baselines.iti_gen import (
    ItiGen,
    direction_loss,
    joint_vectors,
    matching_clip,
    semantic_loss,
    text_features,
)
from fairbench.editing.class_pictures import class_latents
from fairbench.editing.references import class_features, find_references
from fairbench.errors import UserError
from fairbench.features import build_features
from fairbench.features.convert import clip_text_model
from fairbench.images.files import save_image
from fairbench.intervention import Intervention
from fairbench.models.live_tokens import live_tokens
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


def cosine(a, b):
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


@pytest.mark.parametrize(("name", "pairs", "others"), [("gender", 1, 4), ("race", 6, 2)])
def test_the_losses_by_hand(name, pairs, others):
    """Classes are told apart with the other attribute held fixed; the joint classes are g * 4 + r."""
    space = AttributeSpace(("gender", "race"))
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(len(space.classes[name]), 5, generator=generator)
    texts, near = torch.randn(8, 5, generator=generator), torch.rand(8, 3, generator=generator)
    directions, hinges = [], []
    for i, j in combinations(range(len(images)), 2):
        for other in range(others):
            rows = (4 * i + other, 4 * j + other) if name == "gender" else (4 * other + i, 4 * other + j)
            apart = (texts[rows[0]] - texts[rows[1]]).numpy()
            directions.append(1 - cosine((images[i] - images[j]).numpy(), apart))
            hinges += [max(0.0, 0.6 - float(near[rows[0], p] + near[rows[1], p]) / 2) for p in range(3)]
    assert len(directions) == pairs * others and 0 < sum(hinge == 0 for hinge in hinges) < len(hinges)
    assert float(direction_loss(space, name, images, texts)) == pytest.approx(np.mean(directions), rel=1e-5)
    assert float(semantic_loss(space, name, near, 0.6)) == pytest.approx(np.mean(hinges), rel=1e-5)


def test_words_follow_the_losses_of_their_own_attribute(pair, tmp_path, monkeypatch):
    """The first gradients, against those of the losses above taken one attribute at a time."""
    from fairbench.baselines import iti_gen

    model, clip = pair
    references = {"gender": torch.eye(24)[:2], "age": torch.eye(24)[2:4]}
    seen = {}

    class Watched(iti_gen.Training):
        def __init__(self, learnt, *rest):
            super().__init__(learnt, *rest)
            self.learnt = learnt

        def run(self, updates, accumulate, log):
            seen["row"] = accumulate(0)
            seen["gradients"] = {name: words.grad.clone() for name, words in self.learnt.items()}
            seen["words"] = self.learnt
            return super().run(updates, accumulate, log)

    monkeypatch.setattr(iti_gen, "Training", Watched)
    monkeypatch.setattr(iti_gen, "class_features", lambda *_: references)
    context = make_context(tmp_path, model, attributes="gender,age", features=[clip], updates=1)
    start = iti_gen._vectors(context.space, 1, model, context.seed)
    ItiGen(ItiGen.Config(vectors=1, prompts_per_update=9, similarity=1)).fit(context)
    texts = [prompt.text for prompt in context.prompts]
    plain = text_features(model, clip, texts)
    words = [f"<w{k}>" for k in range(4)]
    expected, losses = {}, []
    with live_tokens(model, words, 1, lambda: joint_vectors(context.space, start).flatten(0, 1)):
        named = torch.stack(
            [text_features(model, clip, [f"{text} {word}" for text in texts]) for word in words]
        )
        for name in context.space.names:
            direction = direction_loss(context.space, name, references[name], named.mean(1))
            semantics = semantic_loss(context.space, name, (named * plain).sum(-1), 1)
            losses.append((direction.item(), semantics.item()))
            (expected[name],) = torch.autograd.grad(direction + semantics, start[name], retain_graph=True)
    for name, gradient in expected.items():
        assert_close(seen["gradients"][name], gradient, rtol=1e-3, atol=1e-5)
    direction, semantics = np.mean(losses, axis=0)
    assert seen["row"] == pytest.approx(
        {"loss": direction + semantics, "loss_direction": direction, "loss_semantics": semantics}, rel=1e-3
    )


def test_the_word_of_an_intersection_is_the_sum_of_those_of_its_classes():
    space = AttributeSpace(("gender", "age"))
    vectors = {"gender": torch.randn(2, 3, 4), "age": torch.randn(2, 3, 4)}
    joint = joint_vectors(space, vectors)
    assert_close(joint[1], vectors["gender"][0] + vectors["age"][1])
    assert_close(joint[2], vectors["gender"][1] + vectors["age"][0])


def test_training_turns_the_words_to_the_direction_of_the_pictures(pair, tmp_path, monkeypatch):
    from fairbench.baselines import iti_gen

    model, clip = pair
    references = {"gender": torch.eye(24)[:2]}
    monkeypatch.setattr(iti_gen, "class_features", lambda *_: references)
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


def test_references_are_the_pictures_of_every_class(pair, tmp_path):
    """From a table: CLIP's features of what it names. Without one: of pictures for prompts of the class."""
    _, clip = pair
    rows, pictures = ["path,prompt,gender"], torch.rand(4, 3, 64, 64).mul(255).round() / 255
    for index, label in enumerate(["male", "female", "male", ""]):
        save_image(tmp_path / f"{index}.png", pictures[index])
        rows.append(f"{index}.png,anything,{label}")
    table = tmp_path / "references.csv"
    table.write_text("\n".join(rows))
    given = class_features(make_context(tmp_path, pair[0]), clip, 1, find_references(str(table)))
    features = torch.nn.functional.normalize(clip(pictures), dim=-1)
    assert_close(given["gender"], torch.stack([features[1], (features[0] + features[2]) / 2]))
    method = ItiGen(ItiGen.Config(references=str(table)))
    method.check_fit(make_context(tmp_path, pair[0], features=[clip]))
    with pytest.raises(UserError, match="show no young: name the class of some in a column age"):
        method.check_fit(make_context(tmp_path, pair[0], features=[clip], attributes="age"))
    (tmp_path / "1.png").write_text("nothing")
    with pytest.raises(UserError, match=r"1\.png: cannot be read as an image"):
        method.check_fit(make_context(tmp_path, pair[0], features=[clip]))


def test_references_are_made_by_the_model_where_there_is_no_table(pair, tmp_path):
    model, clip = pair
    context = make_context(tmp_path, model)
    made = class_features(context, clip, 2, None)["gender"]
    pictures = model.decode(class_latents(context, context.space, 1, 2)).clamp(0, 1)
    assert_close(made[1], torch.nn.functional.normalize(clip(pictures), dim=-1).mean(0))
    assert made.shape == (2, 24) and (made[1] - made[0]).abs().max() > 1e-4


def test_a_training_that_was_stopped_says_how_far_it_came(pair, tmp_path, monkeypatch):
    from fairbench.baselines import iti_gen

    model, clip = pair
    monkeypatch.setattr(iti_gen, "class_features", lambda *_: {"gender": torch.eye(24)[:2]})
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
