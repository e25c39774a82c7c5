"""Expected targets against a brute force over all draws and all assignments, and against their laws."""

from functools import partial
from itertools import permutations, product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from fairbench.alignment import expected_targets
from fairbench.alignment.targets import EXACT_COMPOSITIONS, _compositions
from fairbench.errors import UserError

pair = partial(zip, strict=True)
TWO = {"gender": [0.5, 0.5]}
FOUR = {"race": [0.25] * 4}


def judged(seed: int, count: int, *sizes: int) -> list[torch.Tensor]:
    rng = np.random.default_rng(seed)
    return [torch.from_numpy(rng.dirichlet(np.full(size, 0.5), count)) for size in sizes]


def brute_force(parts: list[np.ndarray], joint: np.ndarray) -> np.ndarray:
    """E_u[u_sigma*] by its definition: every draw of N classes, every permutation; q is N x K1 x K2."""
    count, cells = len(parts[0]), list(np.ndindex(*joint.shape))
    cost = {
        (i, *cell): np.sqrt(
            sum(((part[i] - np.eye(len(part[i]))[k]) ** 2).sum() for part, k in pair(parts, cell))
        )
        for i in range(count)
        for cell in cells
    }
    q = np.zeros((count, *joint.shape))
    for drawn in product(cells, repeat=count):
        best = min(
            permutations(drawn), key=lambda sigma: sum(cost[(i, *cell)] for i, cell in enumerate(sigma))
        )
        weight = np.prod([joint[cell] for cell in drawn])
        for i, cell in enumerate(best):
            q[(i, *cell)] += weight
    return q


@pytest.mark.parametrize(
    ("sizes", "count", "target"),
    [
        ((2,), 5, [0.25, 0.75]),
        ((2,), 4, [0.9, 0.1]),
        ((3,), 4, [0.5, 0.3, 0.2]),
        ((4,), 4, [0.25] * 4),
        ((4,), 3, [0.7, 0.0, 0.1, 0.2]),
        ((2, 2), 4, [[0.1, 0.2], [0.3, 0.4]]),
    ],
)
def test_the_definition(sizes: tuple[int, ...], count: int, target: list) -> None:
    parts = judged(3, count, *sizes)
    names = [f"attribute{k}" for k in range(len(sizes))]
    expected = brute_force([part.numpy() for part in parts], np.array(target))
    targets = expected_targets(dict(pair(names, parts)), target)
    for axis, name in enumerate(names):
        others = tuple(k + 1 for k in range(len(sizes)) if k != axis)
        np.testing.assert_allclose(targets[name].q, expected.sum(axis=others), atol=1e-9)
        np.testing.assert_allclose(targets[name].confidence, targets[name].q.max(dim=1).values)
        assert (targets[name].label == targets[name].q.argmax(dim=1)).all()


@pytest.mark.parametrize("ratio", [0.5, 0.25, 0.9])
@pytest.mark.parametrize("count", [1, 7, 24])
def test_two_classes_follow_the_binomial(ratio: float, count: int) -> None:
    score = np.random.default_rng(0).permutation(np.linspace(0.02, 0.97, count))
    targets = expected_targets(
        {"gender": torch.from_numpy(np.stack([1 - score, score], axis=1))}, {"gender": [1 - ratio, ratio]}
    )["gender"]
    rank = score.argsort().argsort()
    # Image of rank r becomes class 1 where at least N - r of the N draws are of class 1.
    np.testing.assert_allclose(targets.q[:, 1], binom.sf(count - rank - 1, count, ratio), atol=1e-12)


@pytest.mark.parametrize(("count", "kept"), [(12, 10), (24, 20), (32, 28)])
def test_as_many_confident_images_as_in_the_paper(count: int, kept: int) -> None:
    score = torch.linspace(0.01, 0.99, count)
    targets = expected_targets({"gender": torch.stack([1 - score, score], dim=1)}, TWO)["gender"]
    assert (targets.confidence >= 0.8).sum() == kept


def test_transport_of_two_classes_is_the_closed_form() -> None:
    (gender,) = judged(5, 6, 2)
    closed = expected_targets({"gender": gender}, {"gender": [0.3, 0.7]})["gender"].q
    certain = torch.ones(6, 1, dtype=torch.float64)
    solved = expected_targets({"gender": gender, "alive": certain}, {"gender": [0.3, 0.7], "alive": [1.0]})
    np.testing.assert_allclose(solved["gender"].q, closed, atol=1e-9)


counts = st.integers(1, 7)
seeds = st.integers(0, 10_000)
weights = st.lists(st.integers(0, 9), min_size=3, max_size=3)
targets_of_three = weights.filter(sum).map(lambda values: np.array(values) / sum(values))


@given(seeds, counts, targets_of_three)
def test_rows_sum_to_one_and_columns_to_the_target(seed: int, count: int, target: np.ndarray) -> None:
    (race,) = judged(seed, count, 3)
    q = expected_targets({"race": race}, {"race": target})["race"].q
    np.testing.assert_allclose(q.sum(dim=1), 1, atol=1e-9)
    np.testing.assert_allclose(q.mean(dim=0), target, atol=1e-9)


@given(seeds, counts, st.integers(0, 10))
def test_marginals_of_a_joint_target(seed: int, count: int, tenths: int) -> None:
    gender, age = judged(seed, count, 2, 2)
    joint = np.array([[tenths / 10, 0], [0.5 - tenths / 20, 0.5 - tenths / 20]])
    targets = expected_targets({"gender": gender, "age": age}, joint)
    np.testing.assert_allclose(targets["gender"].q.mean(dim=0), joint.sum(axis=1), atol=1e-9)
    np.testing.assert_allclose(targets["age"].q.mean(dim=0), joint.sum(axis=0), atol=1e-9)


@given(st.data(), seeds, counts, st.sampled_from([(2,), (3,), (2, 2)]))
def test_the_order_of_the_images_does_not_matter(
    data: st.DataObject, seed: int, count: int, sizes: tuple[int, ...]
) -> None:
    parts = [part.mul(4).round().div(4) for part in judged(seed, count, *sizes)]  # many ties
    order = data.draw(st.permutations(range(count)))
    target = np.full(sizes, 1 / np.prod(sizes))
    one = expected_targets({str(k): part for k, part in enumerate(parts)}, target)
    other = expected_targets({str(k): part[list(order)] for k, part in enumerate(parts)}, target)
    for name in one:
        np.testing.assert_allclose(other[name].q, one[name].q[list(order)], atol=1e-9)


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=9), st.floats(0, 1))
def test_monotone_in_rank_and_equal_where_tied(scores: list[float], ratio: float) -> None:
    score = torch.tensor(scores, dtype=torch.float64).sort().values
    probabilities, target = {"gender": torch.stack([1 - score, score], dim=1)}, {"gender": [1 - ratio, ratio]}
    q = expected_targets(probabilities, target)["gender"].q[:, 1]
    assert (q.diff() >= -1e-12).all()
    tied = (score.diff() == 0).nonzero().squeeze(1)
    np.testing.assert_allclose(q[tied], q[tied + 1], atol=1e-12)
    assert q.mean() == pytest.approx(ratio, abs=1e-9)


def test_draws_approach_the_exact_result() -> None:
    gender, race = judged(1, 3, 2, 4)
    probabilities, target = {"gender": gender, "race": race}, {"gender": [0.5, 0.5], "race": [0.25] * 4}
    exact = expected_targets(probabilities, target)
    drawn = expected_targets(probabilities, target, draws=20_000, generator=torch.Generator().manual_seed(0))
    for name in exact:
        np.testing.assert_allclose(drawn[name].q, exact[name].q, atol=0.02)


def test_draws_are_reproducible_and_few_where_compositions_are_many() -> None:
    gender, race = judged(2, 32, 2, 4)
    probabilities, target = {"gender": gender, "race": race}, {"gender": [0.5, 0.5], "race": [0.25] * 4}
    one, other = (
        expected_targets(probabilities, target, generator=torch.Generator().manual_seed(7)) for _ in range(2)
    )
    assert (one["race"].q == other["race"].q).all()
    np.testing.assert_allclose(one["race"].q.mean(dim=0), 0.25, atol=0.02)


def test_compositions_are_all_there_and_weigh_one() -> None:
    found, weights = _compositions(4, np.array([0.2, 0.3, 0.5]), None, None)
    assert {tuple(row) for row in found} == {row for row in product(range(5), repeat=3) if sum(row) == 4}
    assert weights.sum() == pytest.approx(1)
    many, _ = _compositions(40, np.full(8, 1 / 8), None, torch.Generator().manual_seed(0))
    assert len(many) <= 200 < EXACT_COMPOSITIONS


@pytest.mark.parametrize("sizes", [(2,), (4,), (2, 4)])
def test_images_without_a_face_take_no_part(sizes: tuple[int, ...]) -> None:
    parts = judged(4, 4, *sizes)
    names = [str(size) for size in sizes]
    target = np.full(sizes, 1 / np.prod(sizes))
    with_gaps = {name: part[[0, 0, 1, 2, 0, 3]] for name, part in pair(names, parts)}
    with_gaps[names[0]][[1, 4]] = torch.nan  # one attribute without a value is enough to be left out of all
    alone = expected_targets(dict(pair(names, parts)), target)
    for name, targets in expected_targets(with_gaps, target).items():
        np.testing.assert_allclose(targets.q[[0, 2, 3, 5]], alone[name].q)
        assert targets.label[[1, 4]].tolist() == [-1, -1]
        assert not targets.q[[1, 4]].any() and not targets.confidence[[1, 4]].any()


def test_no_face_at_all_and_no_image_at_all() -> None:
    targets = expected_targets({"race": torch.full((3, 4), torch.nan)}, FOUR)["race"]
    assert targets.label.tolist() == [-1] * 3 and not targets.q.any() and not targets.confidence.any()
    assert expected_targets({"race": torch.empty(0, 4)}, FOUR)["race"].q.shape == (0, 4)


def test_one_image_expects_the_target_itself() -> None:
    race = torch.tensor([[0.9, 0.1, 0.0, 0.0]])
    targets = expected_targets({"race": race}, {"race": [0.1, 0.2, 0.3, 0.4]})["race"]
    np.testing.assert_allclose(targets.q, [[0.1, 0.2, 0.3, 0.4]], rtol=1e-6)
    assert targets.label.tolist() == [3]


def test_no_graph_and_the_dtype_of_a_loss() -> None:
    logits = torch.randn(5, 2, requires_grad=True, dtype=torch.bfloat16)
    targets = expected_targets({"gender": logits.softmax(dim=1)}, {"gender": torch.tensor([0.5, 0.5])})[
        "gender"
    ]
    assert not targets.q.requires_grad
    assert (targets.q.dtype, targets.label.dtype) == (torch.float32, torch.int64)


@pytest.mark.parametrize(
    ("target", "draws", "message"),
    [
        ({"gender": [0.5, 0.6]}, None, "sum to one"),
        ({"gender": [1.5, -0.5]}, None, "sum to one"),
        ({"gender": [float("nan"), 1.0]}, None, "sum to one"),
        ({"gender": [0.5, 0.25, 0.25]}, None, "shape"),
        ([[0.5, 0.5]], None, "shape"),
        ({"race": [0.5, 0.5]}, None, "leaves out gender"),
        ({"gender": [0.5, 0.5]}, 0, "draws"),
    ],
)
def test_what_is_refused(target: object, draws: int | None, message: str) -> None:
    with pytest.raises(UserError, match=message):
        expected_targets({"gender": torch.full((3, 2), 0.5)}, target, draws=draws)  # type: ignore[arg-type]
