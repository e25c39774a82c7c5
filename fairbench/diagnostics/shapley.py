"""Sharing an effect out among the parts that bring it about together."""

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from math import comb
from typing import TypeVar

import numpy as np

Part = TypeVar("Part")


def subsets(parts: Sequence[Part]) -> list[frozenset[Part]]:
    """Return all 2^k subsets of k parts, the empty one first and all of them last.

    Examples
    --------
    >>> [sorted(some) for some in subsets("ab")]
    [[], ['a'], ['b'], ['a', 'b']]
    """
    return [frozenset(some) for size in range(len(parts) + 1) for some in combinations(parts, size)]


def shapley(parts: Sequence[Part], values: Mapping[frozenset[Part], np.ndarray]) -> dict[Part, np.ndarray]:
    r"""Return the Shapley value of every part.

    .. math:: \phi_p = \sum_{S \not\ni p} \frac{v(S \cup p) - v(S)}{k \binom{k - 1}{|S|}}

    They add up to v(all) - v(none); a part that never changes anything has 0, and parts that are alike have
    the same.

    Parameters
    ----------
    parts
        k of them.
    values
        v of every subset: arrays of one shape, for example one number per prompt.

    References
    ----------
    Shapley, "A Value for n-Person Games", 1953.

    Examples
    --------
    Alone, a brings 1 and b brings 2; together they bring 5. The 2 on top are shared.

    >>> brings = {"": 0, "a": 1, "b": 2, "ab": 5}
    >>> values = {frozenset(some): np.array(brought) for some, brought in brings.items()}
    >>> {part: float(value) for part, value in shapley("ab", values).items()}
    {'a': 2.0, 'b': 3.0}
    """
    found = {}
    for part in parts:
        others = [other for other in parts if other != part]
        found[part] = sum(
            (
                (values[some | {part}] - values[some]) / (len(parts) * comb(len(others), len(some)))
                for some in subsets(others)
            ),
            start=np.zeros_like(values[frozenset()], dtype=float),
        )
    return found


def resampled(
    columns: Sequence[np.ndarray],
    statistic: Callable[[Sequence[np.ndarray]], float],
    *,
    confidence: float = 0.95,
    resamples: int = 9999,
    seed: int = 0,
) -> tuple[float, float] | None:
    """Return the percentile bootstrap interval of a statistic of paired columns, one row per prompt.

    A resample in which the statistic has no value (nan) is left out; None where less than half have one.

    Examples
    --------
    >>> resampled([np.ones(3)], lambda columns: columns[0].mean(), resamples=99)
    (1.0, 1.0)
    """
    rng = np.random.default_rng(seed)
    rows = rng.integers(len(columns[0]), size=(resamples, len(columns[0])))
    drawn = np.array([statistic([column[chosen] for column in columns]) for chosen in rows])
    drawn = drawn[np.isfinite(drawn)]
    if len(drawn) < resamples / 2:
        return None
    low, high = np.quantile(drawn, ((1 - confidence) / 2, (1 + confidence) / 2))
    return float(low), float(high)
