"""How many prompts and images tell a change of bias from noise: the power of the test that compares runs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import nct
from scipy.stats import t as student

from fairbench.errors import UserError
from fairbench.metrics.bias import bias
from fairbench.metrics.counts import prompt_biases
from fairbench.metrics.significance import LEVEL, sign_flip_test

MOST_IMAGES = 1024
"""Images per prompt beyond which more prompts are the better idea."""
WORLD = 40_000
"""Prompts that stand for all prompts of this kind."""


@dataclass(frozen=True)
class Design:
    """How much to generate."""

    prompts: int
    images: int | None
    """Images per prompt; None where no number of them is enough with so few prompts."""


def imagined_prompts(classes: int, counts: ArrayLike | None = None, *, seed: int = 0) -> np.ndarray:
    """Return WORLD x K class probabilities: those of a pilot's prompts, or anything equally likely.

    Parameters
    ----------
    classes
        K.
    counts
        P x K of a pilot, whose prompts are drawn with replacement, each with half an image more of every
        class, as a few images alone look more one-sided than the model is. None: uniform on the simplex,
        for which the gaps of two classes are spread evenly between 0 and 1.
    seed
        Of the draws.

    Examples
    --------
    A pilot of one image: 1.5 of 2 for its class, 0.5 for the other one.

    >>> imagined_prompts(2, [[1, 0]])[0].tolist()
    [0.75, 0.25]
    """
    rng = np.random.default_rng(seed)
    if counts is None:
        return rng.dirichlet(np.ones(classes), size=WORLD)
    table = np.asarray(counts, dtype=float)
    table = table[table.sum(axis=1) > 0] + 0.5
    return (table / table.sum(axis=1, keepdims=True))[rng.integers(0, len(table), WORLD)]


def plan(
    world: np.ndarray, detect: float, power: float, prompts: Sequence[int], *, seed: int = 0
) -> list[Design]:
    """Find the fewest images per prompt with which a change of the mean bias is detected.

    Two runs are compared, the other one with every prompt's probabilities drawn towards even shares by the
    same part, so that the mean gap falls by ``detect``. With differences of mean m and standard deviation s
    over prompts, which are simulated for each number of images, the power of the two-sided test of level 5 %
    on P prompts is that of Student's t with noncentrality ``m sqrt(P) / s``; the sign-flip test has the same
    for all but a few prompts. Noise counts as independent in the two runs; what they share of it helps.

    Parameters
    ----------
    world
        W x K from `imagined_prompts`.
    detect
        The change of the mean gap.
    power
        The chance to detect it.
    prompts
        Numbers of prompts to plan for.
    seed
        Of the simulation.

    Raises
    ------
    UserError
        The mean gap is smaller than the change, so it cannot fall by it.

    Examples
    --------
    All images of one class, against even shares: with one image no run can look even, with two it does.

    >>> plan(np.tile([1.0, 0.0], (100, 1)), detect=1, power=0.8, prompts=[100])
    [Design(prompts=100, images=2)]
    """
    changed = _changed(world, detect)
    moments: dict[int, tuple[float, float]] = {}

    def enough(count: int, images: int) -> bool:
        if images not in moments:
            change = _differences(world, changed, images, np.random.default_rng(seed))
            moments[images] = float(change.mean()), float(change.std(ddof=1))
        mean, sd = moments[images]
        edge, shift = student.isf(LEVEL / 2, count - 1), mean * np.sqrt(count) / max(sd, 1e-12)
        return bool(nct.sf(edge, count - 1, abs(shift)) >= power)

    return [Design(count, _fewest(partial(enough, count))) for count in prompts]


def simulated_power(
    world: np.ndarray, detect: float, design: Design, *, evaluations: int = 500, seed: int = 1
) -> float:
    """Return how often the test itself, on simulated runs of this design, finds the change.

    Examples
    --------
    As in `plan`: half of the 50 prompts change, and all of these in the same direction.

    >>> simulated_power(np.tile([1.0, 0.0], (100, 1)), 1, Design(prompts=50, images=2), evaluations=10)
    1.0
    """
    if design.images is None:
        raise ValueError("the design has no number of images")
    rng = np.random.default_rng(seed)
    changed = _changed(world, detect)
    chosen = rng.integers(0, len(world), (evaluations, design.prompts))
    change = _differences(world[chosen], changed[chosen], design.images, rng)
    return float((sign_flip_test(change, resamples=1999) <= LEVEL).mean())


def _changed(world: np.ndarray, detect: float) -> np.ndarray:
    gap = float(bias(world).mean())
    if not 0 < detect <= gap:
        raise UserError(
            f"a change of {detect:g} cannot be: the mean gap is {gap:.2f}, ask for less than that"
        )
    return world + detect / gap * (1 / world.shape[-1] - world)


def _differences(world: np.ndarray, changed: np.ndarray, images: int, rng: np.random.Generator) -> np.ndarray:
    one, other = (prompt_biases(rng.multinomial(images, chances)) for chances in (world, changed))
    return one - other


def _fewest(enough: Callable[[int], bool]) -> int | None:
    """Return the smallest number of images that is enough, None if none is; more images never harm."""
    if not enough(MOST_IMAGES):
        return None
    low, high = 1, MOST_IMAGES
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
