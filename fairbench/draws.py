"""Which class every image of a drawn method is asked to show: the one place where classes are drawn.

A draw knows images by their seeds, so it is the same for any batch size and order, and for every method.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np

from fairbench.attributes import AttributeSpace, TargetDistribution
from fairbench.errors import unknown

DrawClass = Literal["emergent", "drawn", "coupled"]
"""Who chooses the attribute of an image: the model, the harness per image, or a batch balanced together."""
Rule = Literal["iid", "quota", "by-seed"]

IID, QUOTA = 1, 2
"""Keep the generators of the two rules apart from each other and from the noise of the images."""
GOLDEN = 11400714819323198485
"""The odd integer next to 2^64 times the golden ratio less one."""


@dataclass(frozen=True)
class Draw:
    r"""A class of the attribute space for every seed.

    Attributes
    ----------
    rule
        ``iid``: independent images, :math:`P(k) = t_k`, each from a generator of its own seed.
        ``quota``: of the n images of a prompt, :math:`n t_k` show class k (rounded up or down at random
        where that is no whole number, right on average), in random order.
        ``by-seed``: no generator; the class in which :math:`s \varphi \bmod 1` falls, which hands consecutive
        seeds s out as evenly as can be.
    probabilities
        The joint target t over the classes, row-major like ``AttributeSpace.labels``.
    planned
        Seed -> class, for ``quota``; a seed outside it is drawn iid.

    Examples
    --------
    The multiples of 0.618 modulo 1 are 0, 0.618, 0.236 and 0.854:

    >>> Draw("by-seed", (0.5, 0.5))([0, 1, 2, 3]).tolist()
    [0, 1, 0, 1]
    """

    rule: Rule
    probabilities: tuple[float, ...]
    planned: Mapping[int, int] = field(default_factory=dict)

    @classmethod
    def make(
        cls,
        space: AttributeSpace,
        target: TargetDistribution,
        rule: Rule = "iid",
        rows: Iterable[tuple[str, int]] = (),
    ) -> "Draw":
        """Plan a draw.

        Parameters
        ----------
        space, target
            The classes, and how often each one is wanted.
        rule
            See `Draw`.
        rows
            Prompt id and seed of every image that is going to be made; only ``quota`` needs them.

        Raises
        ------
        UserError
            There is no such rule.
        """
        if rule not in get_args(Rule):
            raise unknown("draw", rule, get_args(Rule))
        probabilities = target.joint(space.names)
        planned: dict[int, int] = {}
        if rule == "quota":
            prompts: dict[str, list[int]] = {}
            for prompt, seed in rows:
                prompts.setdefault(prompt, []).append(int(seed))
            for seeds in prompts.values():
                planned |= _quota(sorted(seeds), probabilities)
        return cls(rule, tuple(probabilities.tolist()), planned)

    def __call__(self, seeds: Sequence[int]) -> np.ndarray:
        """Return the class numbers of N images, shape (N,); a class without mass is never among them."""
        return np.array([self._class_of(int(seed)) for seed in seeds], dtype=np.int64)

    def _class_of(self, seed: int) -> int:
        if seed in self.planned:
            return self.planned[seed]
        uniform = _by_seed if self.rule == "by-seed" else _iid
        return int(_class_at(uniform(seed), self.probabilities))


def _class_at(uniform: np.ndarray | float, probabilities: Sequence[float] | np.ndarray) -> np.ndarray:
    """Invert the distribution function; rounding may not lead past the last class with mass."""
    last = np.flatnonzero(probabilities)[-1]
    return np.minimum(np.searchsorted(np.cumsum(probabilities), uniform, side="right"), last)


def _iid(seed: int) -> float:
    return np.random.default_rng([IID, seed]).random()


def _by_seed(seed: int) -> float:
    # whole numbers, because a float cannot tell neighbouring seeds of 63 bits apart
    return (seed * GOLDEN % 2**64) / 2**64


def _quota(seeds: list[int], probabilities: np.ndarray) -> dict[int, int]:
    """Hand out the classes of one prompt: evenly spaced points with one random offset, in random order."""
    generator = np.random.default_rng([QUOTA, *seeds])
    points = (generator.permutation(len(seeds)) + generator.random()) / len(seeds)
    return dict(zip(seeds, _class_at(points, probabilities).tolist(), strict=True))
