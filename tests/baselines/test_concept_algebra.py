"""Concept algebra: what is exchanged, what is left alone, image by image."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch.testing import assert_close

from fairbench.baselines.concept_algebra import ConceptAlgebra, exchanged, subspace
from fairbench.intervention import Intervention
from fairbench.models.hooks import Step
from tests.finetuning.stand_ins import make_context, tiny_model

SHAPE = (2, 3, 3)
SEEDS = st.integers(0, 2**31)


def predictions(seed, *counts):
    return torch.randn(*counts, *SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def dot(a, b):
    return (a * b).flatten(1).sum(1)


@given(seed=SEEDS)
def test_two_classes_leave_no_difference_to_the_reference_along_the_concept(seed):
    first, second, prediction, reference = predictions(seed, 4, 5)
    moved = exchanged(prediction, reference, subspace(torch.stack([first, second], 1), 0.9), 1)
    direction = first - second
    direction /= dot(direction, direction).sqrt().reshape(-1, 1, 1, 1)
    assert_close(dot(moved - reference, direction), torch.zeros(5, dtype=torch.float64), atol=1e-9, rtol=0)
    by_hand = prediction - dot(prediction - reference, direction).reshape(-1, 1, 1, 1) * direction
    assert_close(moved, by_hand)


@given(seed=SEEDS, classes=st.integers(2, 8))
def test_all_directions_between_classes_are_exchanged_and_none_across_them(seed, classes):
    concepts, prediction, reference = (
        predictions(seed, 3, classes),
        predictions(seed + 1, 3),
        predictions(seed + 2, 3),
    )
    basis = subspace(concepts, 1.0)
    moved = exchanged(prediction, reference, basis, 1)
    for i in range(1, classes):
        between = concepts[:, i] - concepts[:, 0]
        assert_close(dot(moved, between), dot(reference, between), atol=1e-8, rtol=1e-8)
    change = (moved - prediction).flatten(1)
    span = (concepts - concepts.mean(1, keepdim=True)).flatten(2)
    for sample in range(3):  # the change lies in the span of the differences
        solution = np.linalg.lstsq(span[sample].T.numpy(), change[sample].numpy(), rcond=None)[0]
        np.testing.assert_allclose(span[sample].T.numpy() @ solution, change[sample].numpy(), atol=1e-8)


@given(seed=SEEDS, variance=st.floats(0.05, 1))
def test_a_basis_is_orthonormal_and_the_smallest_that_holds_the_variance(seed, variance):
    concepts = predictions(seed, 2, 5)
    basis = subspace(concepts, variance)
    for sample in range(2):
        rows = basis[sample][basis[sample].abs().sum(1) > 0]
        assert_close(rows @ rows.T, torch.eye(len(rows), dtype=rows.dtype), atol=1e-9, rtol=0)
        centred = (concepts[sample] - concepts[sample].mean(0)).flatten(1)
        energy = np.linalg.svd(centred.numpy(), compute_uv=False) ** 2
        shares = np.cumsum(energy) / energy.sum()
        assert len(rows) == min(np.sum(shares < variance - 1e-9) + 1, 4)


def test_classes_that_look_alike_change_nothing():
    same = predictions(0, 2, 1).repeat(1, 3, 1, 1, 1)
    prediction = predictions(1, 2)
    assert_close(exchanged(prediction, predictions(2, 2), subspace(same, 0.9), 1), prediction)


def test_only_the_conditional_half_is_touched_and_each_image_takes_its_own_class():
    settings = {"classes": ["female", "male"], "reference": "drawn", "variance": 0.9, "strength": 1}
    intervention = Intervention("concept_algebra", "drawn", {}, settings)
    method = ConceptAlgebra(ConceptAlgebra.Config())
    unconditional, conditional, first, second = predictions(3, 4, 2)
    step = Step(0, 1, torch.tensor(1), 1.0, (0, 1))
    with method.apply(intervention, tiny_model(), lambda seeds: np.array([0, 1])) as hooks:
        assert hooks.branches(["a", "b"], [0, 1]) == [["female"] * 2, ["male"] * 2]
        ours = hooks.combine(unconditional, conditional, 3.0, step, None, first, second)
    reference = torch.stack([first[0], second[1]])
    moved = exchanged(conditional, reference, subspace(torch.stack([first, second], 1), 0.9), 1)
    assert_close(ours, unconditional + 3 * (moved - unconditional))


def test_a_neutral_reference_is_the_prompt_that_names_no_class(tmp_path):
    method = ConceptAlgebra(ConceptAlgebra.Config(reference="neutral"))
    model = tiny_model()
    intervention = method.fit(make_context(tmp_path, model))
    unconditional, conditional, first, second, neutral = predictions(3, 5, 2)
    step = Step(0, 1, torch.tensor(1), 1.0, (0, 1))
    with method.apply(intervention, model, None) as hooks:
        asked = [texts[0] for texts in hooks.branches(["a", "b"], [0, 1])]
        ours = hooks.combine(unconditional, conditional, 3.0, step, None, first, second, neutral)
    assert len(asked) == 3 and "male" not in asked[-1] and all("male" in text for text in asked[:-1])
    moved = exchanged(conditional, neutral, subspace(torch.stack([first, second], 1), 0.9), 1)
    assert_close(ours, unconditional + 3 * (moved - unconditional))


def test_a_neutral_reference_leaves_the_choice_to_the_model():
    assert ConceptAlgebra(ConceptAlgebra.Config()).draw_class == "drawn"
    assert ConceptAlgebra(ConceptAlgebra.Config(reference="neutral")).draw_class == "emergent"


@pytest.mark.parametrize(
    "setting", [{"strength": -1}, {"variance": 0}, {"variance": 1.5}, {"reference": "me"}]
)
def test_settings_out_of_range_are_refused(setting):
    with pytest.raises(ValidationError):
        ConceptAlgebra.Config(**setting)
