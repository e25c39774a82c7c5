"""Every matrix against another way to the same one, and the law it is made for."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from fairbench.editing.linear import (
    calibrated_projection,
    complement,
    fair_pca,
    group_directions,
    orthonormal,
    pair_differences,
    ridge,
)


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 12), st.floats(1e-3, 1e3), st.integers(0, 99))
def test_ridge_is_the_least_squares_solution_of_the_stacked_system(count, strength, seed):
    weight, keys, values = (
        random(5, 4, seed=seed),
        random(count, 4, seed=seed + 1),
        random(count, 5, seed=seed + 2),
    )
    importance = random(count, seed=seed + 3).abs()
    scale = importance.sqrt().unsqueeze(1)
    left = np.concatenate([(scale * keys).numpy(), strength**0.5 * np.eye(4)])
    right = np.concatenate([(scale * values).numpy(), strength**0.5 * weight.T.numpy()])
    expected = np.linalg.lstsq(left, right, rcond=None)[0].T
    np.testing.assert_allclose(
        ridge(weight, keys, values, strength, importance), expected, rtol=1e-6, atol=1e-8
    )


def test_ridge_stays_when_held_and_obeys_when_let_go():
    weight, keys, values, ones = random(5, 4), random(3, 4, seed=1), random(3, 5, seed=2), torch.ones(3)
    assert_close(ridge(weight, keys, values, 1e12, ones), weight)
    assert_close(keys @ ridge(weight, keys, values, 1e-9, ones).T, values)
    assert_close(ridge(weight, keys, keys @ weight.T, 0.3, ones), weight)


@settings(deadline=None, max_examples=25)
@given(st.floats(0, 1e4), st.integers(0, 99))
def test_the_projection_is_symmetric_and_shrinks_every_direction_as_it_should(strength, seed):
    differences = random(3, 6, seed=seed)
    projection = calibrated_projection(differences, strength)
    assert_close(projection, projection.T)
    values, vectors = torch.linalg.eigh(differences.T @ differences / 3)
    assert_close(projection @ vectors, vectors / (1 + strength * values))


def test_no_strength_is_no_projection():
    assert_close(calibrated_projection(random(3, 6), 0), torch.eye(6, dtype=torch.float64), rtol=0, atol=0)


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_pairs_are_all_pairs(classes):
    rows = random(4, classes, 3)
    expected = {
        tuple((rows[i, j] - rows[i, k]).tolist())
        for i in range(4) for j in range(classes) for k in range(j + 1, classes)
    }  # fmt: skip
    found = pair_differences(rows)
    assert len(found) == 4 * classes * (classes - 1) // 2
    assert {tuple(row.tolist()) for row in found} == expected


def test_the_complement_is_that_of_the_formula_and_survives_dependent_rows():
    rows = random(2, 5)
    expected = torch.eye(5) - rows.T @ torch.linalg.inv(rows @ rows.T) @ rows
    assert_close(complement(rows), expected)
    assert_close(complement(torch.cat([rows, rows.sum(0, keepdim=True)])), expected)
    assert len(orthonormal(torch.cat([rows, rows]))) == 2


@pytest.mark.parametrize("groups", [2, 4])
@pytest.mark.parametrize("dimensions", [None, 3])
def test_fair_components_have_no_covariance_with_the_group(groups, dimensions):
    rows, labels = random(60, 8), torch.arange(60) % groups
    rows = rows + random(groups, 8, seed=1)[labels]
    components = fair_pca(rows, labels, dimensions)
    assert components.shape == (8, dimensions or 8 - groups + 1)
    assert_close(components.T @ components, torch.eye(components.shape[1], dtype=torch.float64))
    projected = rows @ components
    for k in range(groups):
        assert np.abs(np.cov((labels == k).double(), projected.T)[0, 1:]).max() < 1e-12
    assert group_directions(rows, labels).norm() > 1


def test_fair_components_are_the_leading_ones_among_the_fair():
    rows, labels = random(60, 8) * torch.arange(1, 9), torch.arange(60) % 2
    fair = rows @ complement(group_directions(rows, labels))
    energies = torch.linalg.svdvals(fair)[:3].square()
    found = (rows @ fair_pca(rows, labels, 3)).square().sum(0)
    assert_close(found, energies)
