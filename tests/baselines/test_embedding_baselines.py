"""What the projections and offsets do to embeddings, on the words of the embedded model."""

import itertools
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from fairbench.attributes import AttributeSpace, TargetDistribution
from fairbench.baselines.debias_vl import DebiasVL
from fairbench.baselines.embedding_offset import EmbeddingOffset
from fairbench.baselines.fair_pca import FairPCA, grouped_rows
from fairbench.draws import Draw
from fairbench.editing.class_prompts import class_embeddings, class_texts
from fairbench.editing.linear import group_directions
from fairbench.errors import UserError
from fairbench.suites import load_suite

TRAINING = load_suite("occupations").prompts("train")[:12]
PROMPTS = [prompt.text for prompt in load_suite("occupations").prompts("test")[:4]]
SEEDS = [1, 2, 3, 4]


@pytest.fixture
def context(portraits):
    def make(attributes="gender", target="uniform"):
        space = AttributeSpace.parse(attributes)
        target = TargetDistribution.parse(target, space)
        return SimpleNamespace(model=portraits, prompts=TRAINING, space=space, target=target)

    return make


def embedded(method, context, conditional=None, draw=None):
    given = context.model.encode(PROMPTS)
    if conditional is not None:
        given = type(given)(conditional, given.unconditional)
    with method.apply(method.fit(context), context.model, draw) as hooks:
        return hooks.embed(given, PROMPTS, SEEDS).conditional


def end_states(model, texts):
    """Of the end token, of length 1, straight from the text encoder; the end has the highest number."""
    tokens = model.pipeline.tokenizer(texts, padding="max_length", return_tensors="pt").input_ids
    with torch.no_grad():
        states = model.pipeline.text_encoder(tokens).last_hidden_state.double()
    ends = [row.tolist().index(model.pipeline.tokenizer.eos_token_id) for row in tokens]
    return torch.stack(
        [state[end] / state[end].square().sum().sqrt() for state, end in zip(states, ends, strict=True)]
    )


@pytest.mark.parametrize("attributes", ["gender", "race"])
@pytest.mark.parametrize("strength", [1.0, 500.0])
def test_debias_vl_is_its_formula(context, attributes, strength):
    """A loop over prompts and pairs of classes, and numpy's inverse."""
    task = context(attributes)
    width = task.model.pipeline.text_encoder.config.hidden_size
    scatter, pairs = np.zeros((width, width)), 0
    for prompt in TRAINING:
        words = {"gender": ["female", "male"], "race": ["white", "Black", "Indian", "Asian"]}[attributes]
        texts = [re.sub(r"of an? ", f"of {'an' if w[0] in 'AI' else 'a'} {w} ", prompt.text) for w in words]
        classes = end_states(task.model, texts).numpy()
        for one, other in itertools.combinations(classes, 2):
            scatter, pairs = scatter + np.outer(one - other, one - other), pairs + 1
    expected = np.linalg.inv(np.eye(width) + strength * scatter / pairs)
    found = DebiasVL(DebiasVL.Config(strength=strength)).fit(task).tensors["projection"]
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("attributes", ["gender", "race"])
def test_debias_vl_shrinks_what_tells_the_classes_apart_and_little_else(context, attributes):
    task = context(attributes)
    projection = DebiasVL(DebiasVL.Config()).fit(task).tensors["projection"]
    assert_close(projection, projection.T)
    texts = class_texts(PROMPTS, task.space)
    states = end_states(task.model, [text for row in texts for text in row]).float()
    classes = states.unflatten(0, (-1, task.space.size))
    spread = (classes - classes.mean(1, keepdim=True)).norm()
    others = (classes.mean(1) - classes.mean((0, 1))).norm()
    after = classes @ projection.T
    assert (after - after.mean(1, keepdim=True)).norm() < 0.35 * spread
    assert (after.mean(1) - after.mean((0, 1))).norm() > 0.6 * others


def test_debias_vl_projects_every_row_and_p0_takes_the_class_prompts_out(context):
    task = context()
    method = DebiasVL(DebiasVL.Config(orthogonal=True))
    projection = method.fit(task).tensors["projection"]
    given = task.model.encode(PROMPTS).conditional
    assert_close(embedded(method, task), given @ projection.T)
    people = end_states(task.model, ["a photo of a female person", "a photo of a male person"]).float()
    assert (people @ projection).norm() < 1e-4  # the rows of P_0 P are orthogonal to them


def test_an_offset_puts_the_means_of_the_classes_where_the_target_says(context):
    for target, share in (("uniform", 0.5), ("gender=0.25/0.75", 0.25)):
        task = context(target=target)
        means = class_embeddings(task.model, [prompt.text for prompt in TRAINING], task.space).mean(0)
        moved = embedded(EmbeddingOffset(EmbeddingOffset.Config()), task, means)
        middle = share * means[0] + (1 - share) * means[1]
        assert_close(moved, middle.expand(2, -1, -1), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("attributes", ["gender", "gender,race"])
def test_fair_pca_gives_back_the_part_of_a_training_prompt_of_the_drawn_class(context, attributes):
    task = context(attributes)
    draw = Draw.make(task.space, task.target, "iid")
    method = FairPCA(FairPCA.Config(noise=0.5))
    given, moved = task.model.encode(PROMPTS).conditional.double(), embedded(method, task, draw=draw).double()
    states = class_embeddings(task.model, [prompt.text for prompt in TRAINING], task.space).double()
    rows, groups = grouped_rows(states)
    basis = torch.linalg.qr(group_directions(rows, groups)[: task.space.size - 1].T)[0]
    assert_close(moved - moved @ basis @ basis.T, given - given @ basis @ basis.T, atol=1e-4, rtol=1e-4)
    for row, k in zip(moved @ basis, draw(SEEDS), strict=True):
        assert ((0.5 * states[:, k] @ basis - row).abs().amax((1, 2)) < 1e-3).any()


def test_fair_pca_draws_an_example_for_every_seed_and_keeps_it(context):
    """What is given back is all that differs between images of one prompt and class."""
    task, method = context(target="gender=1/0"), FairPCA(FairPCA.Config(noise=1.0))
    draw, seeds = Draw.make(task.space, task.target, "iid"), list(range(60))
    with method.apply(method.fit(task), task.model, draw) as hooks:
        moved = hooks.embed(task.model.encode(PROMPTS[:1] * 60), PROMPTS[:1] * 60, seeds).conditional
        again = hooks.embed(task.model.encode(PROMPTS[:1] * 3), PROMPTS[:1] * 3, [7, 0, 59]).conditional
    assert_close(again, moved[[7, 0, 59]])
    apart = (moved[:, None] - moved).abs().amax((2, 3)) > 1e-4
    counts = (~apart).sum(1)  # how many images share the example of each
    assert len({tuple(row.tolist()) for row in apart}) >= 10  # of twelve
    assert counts.max() <= 15  # five on average


def test_without_noise_fair_pca_leaves_nothing_that_tells_the_groups_apart(context):
    task = context("race")
    states = class_embeddings(task.model, [prompt.text for prompt in TRAINING], task.space)
    rows, groups = grouped_rows(states)
    projection = FairPCA(FairPCA.Config()).fit(task).tensors["projection"]
    before, after = (group_directions(part, groups).norm() for part in (rows, rows @ projection))
    assert after < 1e-4 * before


def test_as_many_components_are_kept_as_are_asked_for(context):
    projection = FairPCA(FairPCA.Config(dimensions=3)).fit(context()).tensors["projection"]
    values = torch.linalg.eigvalsh(projection.double())
    assert_close(values[-3:], torch.ones(3, dtype=torch.float64), atol=1e-5, rtol=0)
    assert values[:-3].abs().max() < 1e-5


def test_more_components_than_there_are_is_refused(context):
    task, width = context("race"), context().model.pipeline.text_encoder.config.hidden_size
    method = FairPCA(FairPCA.Config(dimensions=width - 2))
    with pytest.raises(UserError, match=f"dimensions is {width - 2}: portraits leaves at most {width - 3}"):
        method.check_task(task.model, task.space, task.target, PROMPTS)
