"""Models whose class probabilities are known for every prompt, and judges whose errors are.

A population is what a prompt's probabilities are drawn from, so that the truth about all prompts is known.
"""

from dataclasses import dataclass

import numpy as np

ERRORS = (0.02, 0.08)
"""Of the judge: the first class is misread this often, the second that, and so on in turn."""
EVERY_PROMPT = 100_000
"""Prompts that stand for all of them where a truth has no closed form."""


@dataclass(frozen=True)
class Population:
    """Class probabilities of prompts.

    Every prompt is ``(1 - lean) / K`` in each class and ``lean`` more in one: ``favourite``, or one that is
    drawn for each prompt. With a ``concentration`` the probabilities follow a symmetric Dirichlet instead.
    """

    name: str
    lean: float = 0.0
    favourite: int | None = None
    concentration: float | None = None

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...], classes: int) -> np.ndarray:
        """Return ... x K probabilities of so many prompts."""
        if self.concentration is not None:
            return rng.dirichlet(np.full(classes, self.concentration), shape)
        drawn = rng.integers(classes, size=shape)
        favourites = drawn if self.favourite is None else np.full(shape, self.favourite)
        return (1 - self.lean) / classes + self.lean * np.eye(classes)[favourites]

    def gap(self, classes: int) -> float:
        """Root mean square gap: ``lean sqrt(2 / K)``; ``sqrt(2 / (K (K a + 1)))`` of a Dirichlet."""
        if self.concentration is not None:
            return float(np.sqrt(2 / (classes * (classes * self.concentration + 1))))
        return float(self.lean * np.sqrt(2 / classes))


POPULATIONS = (
    Population("fair"),
    Population("lean 0.1", 0.1),
    Population("lean 0.3", 0.3),
    Population("lean 0.8", 0.8),
    Population("mixed", concentration=0.6),
    Population("one-sided", 1.0, favourite=0),
)


def judge_rates(classes: int) -> np.ndarray:
    """K x K chances that the judge says k of an image of class j; wrong answers are spread evenly."""
    wrong = np.resize(ERRORS, classes)
    return np.diag(1 - wrong) + (1 - np.eye(classes)) * wrong[:, None] / (classes - 1)
