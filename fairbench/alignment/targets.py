"""Expected targets: which class each image should take so that together they follow the target distribution.

Classes are drawn from the target and handed to the images at the least cost; averaged over all such draws.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb, prod

import numpy as np
import ot
import torch
from numpy.typing import ArrayLike
from scipy.spatial.distance import cdist
from scipy.stats import binom, multinomial
from torch import Tensor
from torch.nn.functional import one_hot

from fairbench.errors import UserError

EXACT_COMPOSITIONS = 1000
"""Up to this many compositions (class counts that N draws can have) are all solved: at most about 0.1 s."""
DRAWS = 200
"""Draws where the compositions are more, the number of arXiv 2311.07604 for gender x race."""


@dataclass(frozen=True)
class Targets:
    """What one attribute of N images should become."""

    q: Tensor
    """N x K: the probability of being handed each class; a row of zeros for an image without a face."""
    label: Tensor
    """N: the likeliest class, -1 for an image without a face."""
    confidence: Tensor
    """N: its probability, 0 for an image without a face."""


@torch.no_grad()
def expected_targets(
    probabilities: Mapping[str, Tensor],
    target: Mapping[str, ArrayLike] | ArrayLike,
    *,
    draws: int | None = None,
    generator: torch.Generator | None = None,
) -> dict[str, Targets]:
    """q_i = E_u[ u_sigma(i) ], where sigma = argmin sum_i ``|p_i - u_sigma(i)|_2`` and u_1 ... u_N ~ target.

    Two classes of one attribute have a closed form: with r_i the rank of image i by p_1 - p_0, from 0,
    ``q_i1 = P( Bin(N, target_0) <= r_i )``. Otherwise an optimal transport is solved for each composition
    (how often each class is drawn): for all of them, weighted by their multinomial probabilities, where they
    are at most ``EXACT_COMPOSITIONS``; else for those met in ``draws`` draws. Several attributes are matched
    together, p_i and u being their probabilities side by side, and q is then summed up for each of them.
    Images that are judged exactly the same share what they are handed.

    Parameters
    ----------
    probabilities
        Attribute -> N x K probabilities. A row with a nan, in any attribute, is an image without a face and
        takes no part.
    target
        Attribute -> K probabilities, independent of each other; or one joint distribution in the order of
        ``probabilities``, of shape (K1, K2, ...) or flattened row by row.
    draws
        Draw this many times, instead of choosing between all compositions and ``DRAWS`` draws.
    generator
        Source of the draws; torch's own if None. Unused where the result is exact.

    Returns
    -------
    Attribute -> targets, on the device of its probabilities and without a graph.

    Raises
    ------
    UserError
        The target does not fit the probabilities or is no distribution, or ``draws`` is not positive.

    References
    ----------
    "Finetuning Text-to-Image Diffusion Models for Fairness", arXiv 2311.07604, its first contribution.

    Examples
    --------
    Of two images one is to be of each class with probability 1/2, both of the same one with 1/4 each:

    >>> judged = {"gender": torch.tensor([[0.9, 0.1], [0.2, 0.8]])}
    >>> expected_targets(judged, [0.5, 0.5])["gender"].q.tolist()
    [[0.75, 0.25], [0.25, 0.75]]
    """
    if draws is not None and draws < 1:
        raise UserError(f"draws is {draws}: give a positive number")
    sizes = [values.shape[1] for values in probabilities.values()]
    joint = _joint(target, list(probabilities), sizes)
    judged = np.concatenate([values.cpu().double().numpy() for values in probabilities.values()], axis=1)
    present = ~np.isnan(judged).any(axis=1)
    q = np.zeros((len(judged), joint.size))
    if present.any():
        q[present] = (
            _by_rank(judged[present], joint)
            if sizes == [2]
            else _by_transport(judged[present], sizes, joint, draws, generator)
        )
    return {
        name: _targets(marginal, present, probabilities[name])
        for name, marginal in zip(probabilities, _marginals(q, sizes), strict=True)
    }


def _joint(
    target: Mapping[str, ArrayLike] | ArrayLike, names: Sequence[str], sizes: Sequence[int]
) -> np.ndarray:
    """Return the target distribution of the product of the classes, row-major and flat."""
    if isinstance(target, Mapping):
        if missing := [name for name in names if name not in target]:
            raise UserError(f"the target leaves out {', '.join(missing)}: give one probability per class")
        joint = np.ones(1)
        for name, size in zip(names, sizes, strict=True):
            joint = np.outer(joint, _distribution(target[name], [(size,)], name)).ravel()
        return joint
    return _distribution(target, [tuple(sizes), (prod(sizes),)], " x ".join(names))


def _distribution(values: ArrayLike, shapes: Sequence[tuple[int, ...]], name: str) -> np.ndarray:
    array = torch.as_tensor(values, dtype=torch.float64, device="cpu").numpy()
    if array.shape not in shapes:
        raise UserError(f"the target of {name} has the shape {array.shape}: give one of shape {shapes[0]}")
    if not (array >= 0).all() or abs(array.sum() - 1) > 1e-6:
        raise UserError(f"the target of {name} is no distribution: give probabilities that sum to one")
    return array.ravel() / array.sum()


def _by_rank(judged: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Two classes: class 0 goes to the F ~ Bin(N, target_0) images of lowest rank; tied images share."""
    _, group, size = np.unique(judged[:, 1] - judged[:, 0], return_inverse=True, return_counts=True)
    second = binom.cdf(np.arange(len(judged)), len(judged), target[0])
    shared = np.add.reduceat(second, np.cumsum(size) - size) / size
    return np.stack([1 - shared, shared], axis=1)[group]


def _by_transport(
    judged: np.ndarray,
    sizes: Sequence[int],
    target: np.ndarray,
    draws: int | None,
    generator: torch.Generator | None,
) -> np.ndarray:
    """Any classes: the mean of the optimal plans over the compositions."""
    corners = np.concatenate(
        [np.eye(size)[index.ravel()] for size, index in zip(sizes, np.indices(sizes), strict=True)], axis=1
    )
    # Sorted and merged: the result depends neither on the order of the images nor on how ties are broken.
    distinct, group, shares = np.unique(judged, axis=0, return_inverse=True, return_counts=True)
    mass, cost = shares.astype(float), cdist(distinct, corners)
    plan = np.zeros_like(cost)
    for counts, weight in zip(*_compositions(len(judged), target, draws, generator), strict=True):
        drawn = counts > 0
        plan[:, drawn] += weight * ot.emd(
            mass, counts[drawn], cost[:, drawn], center_dual=False, check_marginals=False
        )
    return (plan / mass[:, None])[group.ravel()]


def _compositions(
    count: int, target: np.ndarray, draws: int | None, generator: torch.Generator | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return class counts that sum to ``count`` (C x K, floats as POT wants them) and their weights (C)."""
    classes = len(target)
    if draws is None and comb(count + classes - 1, classes - 1) <= EXACT_COMPOSITIONS:
        # Stars and bars: K - 1 bars in N + K - 1 places; a class has as many images as places between bars.
        places = count + classes - 1
        bars = [(-1, *chosen, places) for chosen in combinations(range(places), classes - 1)]
        counts = np.diff(np.array(bars, dtype=float), axis=1) - 1
        weights = multinomial.pmf(counts, count, target)
        return counts[weights > 0], weights[weights > 0]
    draws = draws or DRAWS
    chances = torch.from_numpy(target).to(generator.device if generator is not None else "cpu")
    drawn = torch.multinomial(chances, draws * count, replacement=True, generator=generator)
    per_draw = one_hot(drawn.view(draws, count), classes).sum(dim=1)
    counts, times = np.unique(per_draw.cpu().double().numpy(), axis=0, return_counts=True)
    return counts, times / draws


def _marginals(q: np.ndarray, sizes: Sequence[int]) -> list[np.ndarray]:
    """Sum the N x (K1 K2 ...) expected targets up to one N x K for each attribute."""
    table = q.reshape(len(q), *sizes)
    axes = range(1, len(sizes) + 1)
    return [table.sum(axis=tuple(other for other in axes if other != axis)) for axis in axes]


def _targets(q: np.ndarray, present: np.ndarray, like: Tensor) -> Targets:
    dtype = torch.promote_types(like.dtype, torch.float32)
    return Targets(
        q=torch.from_numpy(q).to(like.device, dtype),
        label=torch.from_numpy(np.where(present, q.argmax(axis=1), -1)).to(like.device),
        confidence=torch.from_numpy(q.max(axis=1)).to(like.device, dtype),
    )
