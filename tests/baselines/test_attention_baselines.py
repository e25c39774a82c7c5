"""Edits of cross-attention, by hand where that can be done."""

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionModelEditingPipeline
from torch.testing import assert_close

from fairbench.baselines import uce
from fairbench.baselines.time_edit import TimeEdit, aligned_rows, time_weights
from fairbench.baselines.uce import UCE, SubjectRows, concept_edit, mean_gap, subject_rows
from fairbench.editing.attention import key_value_weights
from fairbench.editing.class_prompts import embeddings
from fairbench.models.text_to_image import TextToImage
from tests.tiny import MERGES, tiny_pipeline

QUICK = {"concepts": 2, "images_per_concept": 4}


@pytest.mark.parametrize(("relative", "lower"), [(True, 1 / 3), (False, 2 / 3)])
@pytest.mark.parametrize("preserved", [0, 1])
def test_the_closed_form_by_hand(relative, lower, preserved):
    r"""With W = I, c = (1, 0), a = (0, 2), alpha = 1/2, lambda = 1/2 and (0, 1) preserved.

    v = c + (0, 1/2) if the direction takes the length of c, else c + (0, 1). Then
    W' = (I/2 + v c^T + eta (0, 1)(0, 1)^T) diag(1 / 1.5, 1 / (0.5 + eta)): the second column stays that of I.
    """
    rows = SubjectRows(torch.tensor([[1.0, 0]]), torch.tensor([[[0.0, 2]]]), torch.tensor([0]))
    kept = torch.tensor([[0.0, 1]])[:preserved]
    (weight,) = concept_edit(
        {"w": torch.eye(2)}, rows, kept, torch.tensor([[0.5]]), 0.5, 0.1, relative=relative
    ).values()  # fmt: skip
    assert_close(weight, torch.tensor([[1, 0], [lower, 1]]))


@pytest.mark.parametrize(("preserve", "weight"), [(0.1, 2.4 / 1.9), (1.0, 6.0 / 5.5), (0.0, 2.0 / 1.5)])
def test_what_is_preserved_holds_on_by_its_weight(preserve, weight):
    """1 x 1, W = 1, c = 1 moved to 1.5 and 2 preserved: (1/2 + 1.5 + 4 eta) / (1/2 + 1 + 4 eta)."""
    rows = SubjectRows(torch.tensor([[1.0]]), torch.tensor([[[1.0]]]), torch.tensor([0]))
    amounts = torch.tensor([[0.5]])
    edit = concept_edit(
        {"w": torch.eye(1)}, rows, torch.tensor([[2.0]]), amounts, 0.5, preserve, relative=False
    )
    assert_close(edit["w"], torch.tensor([[weight]]))


@pytest.mark.parametrize("edition", ["paper", "revised"])
def test_a_concept_is_done_when_all_its_classes_are_near(task, monkeypatch, edition):
    method = UCE(UCE.Config(edition=edition, **QUICK))
    asked = scripted(monkeypatch, *[[[0.25, 0.55, 0.1, 0.1], [0.1, 0.26, 0.24, 0.4]]] * 2)
    moved = changes(method.fit(task(updates=2, attributes="race")), task().model)
    assert asked == [0, 4]
    assert max(change.abs().max() for change in moved.values()) > 1e-3


def scripted(monkeypatch, *turns):
    """Let the counts of the turns be these instead of those of pictures; return how often was counted."""
    asked = []

    def shares(context, prompts, images, first):
        asked.append(first)
        return torch.tensor(turns[first // images], dtype=torch.float64)[: len(prompts)]

    monkeypatch.setattr(uce, "class_shares", shares)
    return asked


def changes(intervention, model):
    originals = key_value_weights(model)
    return {name: intervention.tensors[name] - weight for name, weight in originals.items()}


def test_the_revised_edition_adds_the_turns_up_and_starts_from_the_original(task, monkeypatch):
    method = UCE(UCE.Config(edition="revised", **QUICK))
    scripted(monkeypatch, [[0.9, 0.1], [0.0, 1.0]], [[0.8, 0.2], [0.3, 0.7]])
    twice = changes(method.fit(task(updates=2)), task().model)
    scripted(monkeypatch, [[1.2, -0.2], [-0.2, 1.2]])  # 0.4 + 0.3 and 0.5 + 0.2 away, in one turn
    once = changes(method.fit(task(updates=1)), task().model)
    assert all(torch.allclose(twice[name], once[name], atol=1e-6) for name in twice)
    assert max(change.abs().max() for change in twice.values()) > 1e-3


@pytest.mark.parametrize(("edition", "off"), [("paper", 0.2), ("revised", 1e-5)])
def test_the_step_size_is_used(task, monkeypatch, edition, off):
    """Twice the step moves twice as far; in the paper's edition almost, as each class adds to the length."""
    found = []
    for step in (0.2, 0.4):
        scripted(monkeypatch, [[0.9, 0.1], [0.0, 1.0]])
        method = UCE(UCE.Config(edition=edition, step_size=step, **QUICK))
        found.append(changes(method.fit(task(updates=1)), task().model))
    for once, twice in zip(*(change.values() for change in found), strict=True):
        assert (2 * once - twice).norm() < off * twice.norm()


def test_the_paper_edition_edits_what_the_last_turn_left(task, monkeypatch):
    method, turn = UCE(UCE.Config(step_size=1, **QUICK)), [[0.9, 0.1], [0.2, 0.8]]
    scripted(monkeypatch, turn, turn)
    twice = method.fit(task(updates=2)).tensors
    scripted(monkeypatch, turn)
    context = task(updates=1)
    once = method.fit(context).tensors
    context.model.pipeline.unet.load_state_dict(
        {name.removeprefix("unet."): weight for name, weight in once.items()}, strict=False
    )
    (context.directory / uce.HISTORY).unlink()
    again = method.fit(context).tensors
    assert all(torch.allclose(twice[name], again[name], atol=1e-5) for name in twice)


def test_what_is_within_the_tolerance_is_left_and_all_of_it_ends_the_fit(task, monkeypatch):
    method = UCE(UCE.Config(tolerance=0.11, **QUICK))
    asked = scripted(monkeypatch, [[0.6, 0.4], [0.45, 0.55]])
    intervention = method.fit(task(updates=5))
    assert asked == [0] and intervention.settings["turns"] == 1
    assert all((change == 0).all() for change in changes(intervention, task().model).values())


@pytest.mark.parametrize("edition", ["paper", "revised"])
def test_every_turn_moves_what_is_unfinished_towards_what_it_lacks(task, monkeypatch, edition):
    """The nurse lacks the second class and then the first; the cook is done at once; the DJ is preserved."""
    paper, edits, asked = edition == "paper", [], []
    turns = iter([{"nurse": [0.9, 0.1], "cook": [0.52, 0.48]}, {"nurse": [0.2, 0.8], "cook": [0.9, 0.1]}])

    def shares(context, prompts, images, first):
        asked.append([prompt.concept for prompt in prompts])
        now = next(turns)
        return torch.tensor([now[prompt.concept] for prompt in prompts], dtype=torch.float64)

    def edit(weights, rows, kept, amounts, regularisation, preserve, *, relative):
        edits.append((rows, kept, amounts.clone(), preserve, relative))
        return {name: weight + 1 for name, weight in weights.items()}

    monkeypatch.setattr(uce, "class_shares", shares)
    monkeypatch.setattr(uce, "concept_edit", edit)
    monkeypatch.setattr(uce, "spread", lambda prompts, count: prompts[:count])
    context = task(updates=2)
    first = context.prompts[0]
    prompts = [
        replace(first, id=name, text=f"face of a {name}", concept=name) for name in ("nurse", "cook", "DJ")
    ]
    context = replace(context, prompts=prompts)
    learnt = UCE(UCE.Config(edition=edition, step_size=0.5, **QUICK)).fit(context).tensors
    states = embeddings(context.model, ["face of a DJ", "face of a cook"])
    (rows, kept, first, preserve, relative), (_, _, second, _, _) = edits
    assert_close(first, torch.tensor([[-0.2, 0.2], [0, 0]], dtype=torch.float64))
    if paper:
        assert asked == [["nurse", "cook"], ["nurse"]]
        assert_close(second, torch.tensor([[0.15, -0.15], [0, 0]], dtype=torch.float64))
        assert_close(kept, states.flatten(0, 1))
        assert len(rows.keys) > 2 and (preserve, relative) == (0.1, True)
    else:
        assert asked == [["nurse", "cook"]] * 2
        assert_close(second, torch.tensor([[-0.05, 0.05], [-0.2, 0.2]], dtype=torch.float64))
        last = len(context.model.pipeline.tokenizer("face of a DJ").input_ids) - 2
        assert_close(kept, states[:1, last])
        assert len(rows.keys) == 2 and (preserve, relative) == (1, False)
    for name, weight in key_value_weights(context.model).items():  # from the last turn's, or the original's
        assert_close(learnt[name], weight + (2 if paper else 1))


def test_directions_take_the_length_of_all_rows_of_a_concept():
    """Rows (3, 0) and (0, 4) have the length 5, the class's (6, 0) and (0, 8) of 10: half of it is added.

    What is then (6, 0), (0, 8) has the length 10, so half of the second class's (0, 1), (0, 0) is (0, 5).
    """
    one, other = [[[6.0, 0]], [[0, 8.0]]], [[[0, 1.0]], [[0, 0]]]
    two = torch.cat([torch.tensor(one), torch.tensor(other)], 1)
    both = SubjectRows(torch.tensor([[3.0, 0], [0, 4]]), two, torch.tensor([0, 0]))
    (weight,) = concept_edit(
        {"w": torch.eye(2)}, both, torch.zeros(0, 2), torch.tensor([[1.0, 0.5]]), 0.5, 1.0, relative=True
    ).values()  # fmt: skip
    assert_close(weight, torch.tensor([[18.5 / 9.5, 0], [15 / 9.5, 32.5 / 16.5]]))
    rows = both._replace(classes=torch.tensor(one))
    one = [{"w": torch.eye(2)}, rows, torch.zeros(0, 2)]
    (relative,) = concept_edit(*one, torch.tensor([[1.0]]), 0.5, 1.0, relative=True).values()
    (absolute,) = concept_edit(*one, torch.tensor([[0.5]]), 0.5, 1.0, relative=False).values()
    assert_close(relative, absolute)
    assert_close(relative, torch.diag(torch.tensor([18.5 / 9.5, 32.5 / 16.5])))


def test_an_interrupted_fit_counts_only_what_it_had_not(task, monkeypatch):
    turns = [[[1.0, 0.0], [0.3, 0.7]], [[0.8, 0.2], [0.4, 0.6]], [[0.7, 0.3], [0.4, 0.6]]]
    method = UCE(UCE.Config(**QUICK))
    asked, rows = scripted(monkeypatch, *turns), []
    context = task(updates=3, log=rows.append)
    whole = method.fit(context)
    assert asked == [0, 4, 8] and [row["update"] for row in rows] == [1, 2, 3]
    asked.clear()
    resumed = method.fit(task(context.directory, updates=3))
    assert asked == []
    assert all(torch.equal(whole.tensors[name], resumed.tensors[name]) for name in whole.tensors)


def test_a_log_that_ends_the_fit_is_obeyed_also_after_an_interruption(task, monkeypatch):
    turns = [[[1.0, 0.0], [0.3, 0.7]], [[0.8, 0.2], [0.4, 0.6]], [[0.7, 0.3], [0.4, 0.6]]]
    method = UCE(UCE.Config(**QUICK))
    asked = scripted(monkeypatch, *turns)
    context = task(updates=3, log=lambda row: row["update"] == 2)
    for directory in (context.directory, context.directory):  # the second as after a kill
        stopped = method.fit(task(directory, updates=3, log=context.log))
        assert asked == [0, 4] and stopped.settings["turns"] == 2
    once = method.fit(task(updates=1))
    assert all(torch.equal(once.tensors[name], stopped.tensors[name]) for name in once.tensors)


def test_subject_rows_begin_at_the_last_token_of_the_concept_and_of_the_class(model, task):
    context = task(attributes="race")
    prompts = [replace(context.prompts[0], text="face of a cook, a person", concept="cook")]
    whole = subject_rows(model, prompts, context.space, whole=True)
    last = subject_rows(model, prompts, context.space, whole=False)
    states = embeddings(model, ["face of a cook, a person"])[0]
    at = len(model.pipeline.tokenizer("face of a cook").input_ids) - 2
    there, farthest = (
        len(model.pipeline.tokenizer(f"face of an {word}").input_ids) - 2 for word in ("Asian", "Indian")
    )
    count = 96 - farthest  # as many as the longest class has
    assert count < 96 - there < 96 - at
    assert_close(whole.keys, states[at : at + count])
    assert_close(last.keys, states[at : at + 1])
    variant = embeddings(model, ["face of an Asian, a person"])[0]
    assert_close(whole.classes[:, 3], variant[there : there + count])
    assert_close(last.classes[:, 3], variant[there : there + 1])
    assert whole.owner.tolist() == [0] * len(whole.keys)


def test_the_logged_gap_is_the_mean_over_prompts_and_pairs():
    assert mean_gap(torch.tensor([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]])) == pytest.approx((1 / 3 + 2 / 3) / 2)


@pytest.mark.parametrize(
    ("old", "new", "rows", "sources"),
    [
        ("<a n>", "<a m n>", [*range(12)], [0, 1, 2, *range(5, 12), 11, 11]),
        ("<a n>", "<a n>", [*range(12)], [*range(12)]),
        ("<an e>", "<a m e>", [0, 1, *range(3, 12)], [0, 1, *range(4, 12), 11]),
    ],
)
def test_tokens_are_aligned_around_what_was_inserted(old, new, rows, sources):
    """Letters are tokens, > is the end and # the padding; the n of "an" has no partner."""
    before, after = (torch.tensor([ord(letter) for letter in text.ljust(12, "#")]) for text in (old, new))
    assert aligned_rows(before, after, old.index(">"), new.index(">")) == (rows, sources)
    assert (before[rows] == after[sources]).all()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("face of a nurse", "face of a male nurse"),
        ("face of an usher, a person", "face of a male usher, a person"),
        ("face of a cook", "face of an Asian cook"),
    ],
)
def test_one_edit_is_that_of_diffusers(monkeypatch, old, new):
    """Their pipeline edits one prompt; its tokenizer has to know "an", and its prompts have 77 tokens."""
    monkeypatch.setattr("tests.tiny.MERGES", [*MERGES, ("a", "n</w>")])
    parts = tiny_pipeline(length=77).components
    theirs = StableDiffusionModelEditingPipeline(
        *(parts[name] for name in ("vae", "text_encoder", "tokenizer", "unet")),
        *(parts["scheduler"], None, None),  # neither a safety checker nor its features
        requires_safety_checker=False,
        with_augs=[],
    )
    layers = [layer for name, layer in theirs.unet.named_modules() if name.endswith("attn2")]
    theirs.ca_clip_layers = layers  # it looks for a class that diffusers has renamed since
    theirs.projection_matrices = [layer.to_v for layer in layers] + [layer.to_k for layer in layers]
    theirs.og_matrices = deepcopy(theirs.projection_matrices)
    theirs.edit_model(old, new, lamb=0.1)
    model = TextToImage(tiny_pipeline(length=77), "tiny")
    expected = {f"unet.{name}": weight for name, weight in theirs.unet.named_parameters()}
    for name, weight in time_weights(model, [old], [new], 0.1).items():
        assert_close(weight, expected[name].detach(), atol=1e-4, rtol=1e-3)
        assert not torch.allclose(weight, key_value_weights(model)[name], atol=1e-2)


def test_several_edits_are_the_mean_over_their_prompts(model):
    """The stack of two prompts, four letters inserted, solved by numpy."""
    old, new = ["face of a nurse", "face of a cook"], ["face of a male nurse", "face of a male cook"]
    weights = time_weights(model, old, new, 0.1)
    keys, wanted = embeddings(model, old).double(), embeddings(model, new).double()
    sources = wanted[:, [0, 1, 2, 3, *range(8, 96), 95, 95, 95, 95]]  # start, face, of, a; m, a, l, e
    for name, weight in key_value_weights(model).items():
        left = np.concatenate([keys.flatten(0, 1) / 2**0.5, 0.1**0.5 * np.eye(16)])
        right = np.concatenate([sources.flatten(0, 1) @ weight.T.double() / 2**0.5, 0.1**0.5 * weight.T])
        expected = np.linalg.lstsq(left, right, rcond=None)[0].T
        np.testing.assert_allclose(weights[name], expected, atol=1e-5)


def test_the_class_that_is_missing_most_is_written_into_the_prompt(task, monkeypatch):
    from fairbench.baselines import time_edit

    shares = torch.tensor([[0.9, 0.1], [0.2, 0.8]], dtype=torch.float64)
    monkeypatch.setattr(time_edit, "class_shares", lambda context, prompts, images: shares[: len(prompts)])
    edits = TimeEdit(TimeEdit.Config(concepts=2)).fit(task()).settings["edits"]
    assert edits == {"face of a nurse": "face of a male nurse", "face of a cook": "face of a female cook"}
    shares[1] = 0.5
    method = TimeEdit(TimeEdit.Config(concepts=2))
    assert method.fit(task()).settings["edits"] == {"face of a nurse": "face of a male nurse"}
    shares[0] = 0.5
    nothing = method.fit(task())
    assert nothing.settings["edits"] == {}
    assert all(
        torch.equal(nothing.tensors[name], weight) for name, weight in key_value_weights(task().model).items()
    )
    zero = TimeEdit(TimeEdit.Config(concepts=2)).fit(task(target="gender=1/0")).settings["edits"]
    assert list(zero.values()) == ["face of a female nurse", "face of a female cook"]
