"""An interval for the gap that stays valid whenever one stops, so that generating can end when it is narrow.

The prompts that tell least are asked less often; what that does to the estimate is undone by weighting.
"""

import numpy as np
from numpy.typing import ArrayLike

from fairbench.metrics.debiased import largest_gap, squared_gap, uniform_or

TRUNCATION = 0.5
"""Largest part of the capital that one bet may lose; 1/2 or 3/4 in Waudby-Smith and Ramdas."""
GRID = 1000
"""Candidate values, evenly spaced in the gap; the interval is widened by one step on both sides."""


class GapSequence:
    """Confidence sequence of the gap g, ``g^2 = mean over prompts and pairs ((p_i - t_i) - (p_j - t_j))^2``.

    It holds the gap of the model over these prompts at *all* times at once with probability ``confidence``:
    stopping because it has become narrow does no harm. It is about the suite's own prompts (more images make
    it as narrow as one likes), not about all prompts of this kind.

    One observation is a block of b images of a random prompt J, drawn with probabilities q. From its
    unbiased squared gap x, ``y = mean_j m_j + (x - m_J) / (P q_J)`` has the suite's mean squared gap as its
    expectation given the past, whatever the earlier images made of m and q. Each candidate value of the mean
    is bet against with y; those against which the capital has reached 2 / (1 - confidence) are excluded.

    Parameters
    ----------
    prompts, classes
        P and K.
    target
        K probabilities that the gap is measured from; None for uniform.
    block
        b, images with a face per observation; at least 2.
    confidence
        Of the interval, over all times together.
    seed
        Of the choice of prompts.

    References
    ----------
    Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting", JRSS B 2024,
    hedged capital; the weighting is the augmented inverse probability weighting of Robins et al., JASA 1994.

    Examples
    --------
    Every image that is seen is of the same class:

    >>> sequence = GapSequence(prompts=3, classes=2)
    >>> for _ in range(50):
    ...     sequence.tell(*sequence.ask(1), [[8, 0]])
    >>> sequence.interval[0] > 0.5, round(sequence.interval[1], 3), sequence.images
    (True, 1.0, 400)
    """

    def __init__(
        self,
        prompts: int,
        classes: int,
        target: ArrayLike | None = None,
        *,
        block: int = 8,
        confidence: float = 0.95,
        seed: int = 0,
    ) -> None:
        self.block, self.images = block, 0
        self._target = uniform_or(target, classes)
        self._bar = np.log(2 / (1 - confidence))
        self._highest = largest_gap(self._target) ** 2
        self._least = -2 / classes / (block - 1)
        self._rng = np.random.default_rng(seed)
        self._times, self._sum, self._squares = np.zeros((3, prompts))
        self._candidates = np.linspace(0, np.sqrt(self._highest), GRID) ** 2
        self._capital = np.zeros((2, GRID))
        self._open = np.ones(GRID, dtype=bool)
        self._steps, self._seen, self._spread = 0, self._highest / 2, self._highest**2 / 4

    def ask(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Return ``count`` prompt numbers to draw a block of images of, and the P chances they had."""
        chances = self._chances()
        return self._rng.choice(len(chances), size=count, p=chances), chances

    def tell(self, prompts: ArrayLike, chances: ArrayLike, counts: ArrayLike) -> None:
        """Take in what was asked for: per block its prompt number, and the counts of its K classes.

        Each block has exactly ``block`` images with a face: those without one are drawn again.

        Parameters
        ----------
        prompts, chances
            From `ask`: of this sequence, or of another one that looks at the same images.
        counts
            N x K.
        """
        chosen, weights = np.asarray(prompts, dtype=int), len(self._times) * np.asarray(chances, dtype=float)
        table = np.asarray(counts)
        if (table.sum(axis=-1) != self.block).any():
            raise ValueError(f"every block needs {self.block} images with a face")
        gaps = squared_gap(table, self._target)
        guesses = self._guesses()
        reach = np.array([self._least - guesses, self._highest - guesses]) / weights
        bounds = guesses.mean() + reach[0].min(), guesses.mean() + reach[1].max()
        for value in guesses.mean() + (gaps - guesses[chosen]) / weights[chosen]:
            self._bet(value, *bounds)
        np.add.at(self._times, chosen, 1)
        np.add.at(self._sum, chosen, gaps)
        np.add.at(self._squares, chosen, gaps**2)
        self.images += int(table.sum())

    @property
    def interval(self) -> tuple[float, float]:
        """The interval of the root mean square gap now; (0, the largest one) before anything is known."""
        inside = np.flatnonzero(self._open)
        low, high = max(inside[0] - 1, 0), min(inside[-1] + 1, GRID - 1)
        return float(np.sqrt(self._candidates[low])), float(np.sqrt(self._candidates[high]))

    @property
    def width(self) -> float:
        """High minus low of the interval."""
        low, high = self.interval
        return high - low

    def _guesses(self) -> np.ndarray:
        """m_j: what is known of each prompt so far, drawn towards what is known of all."""
        overall = self._sum.sum() / max(self._times.sum(), 1)
        return (self._sum + overall) / (self._times + 1)

    def _chances(self) -> np.ndarray:
        """q_j: one half evenly, one half in proportion to the spread of each prompt's squared gap."""
        means = self._sum / np.maximum(self._times, 1)
        within = self._squares - self._times * means**2
        pooled = (within.sum() + self._highest**2) / (np.maximum(self._times - 1, 0).sum() + 1)
        spread = np.sqrt((within.clip(0) + pooled) / (np.maximum(self._times - 1, 0) + 1))
        return 0.5 / len(spread) + 0.5 * spread / spread.sum()

    def _bet(self, value: float, least: float, highest: float) -> None:
        """Bet on the mean being above, and on it being below each candidate; exclude what is too costly."""
        time = self._steps + 1
        stake = np.sqrt(2 * self._bar / (self._spread * time * np.log(time + 1)))
        above = np.minimum(stake, TRUNCATION / (self._candidates - least).clip(1e-12))
        below = np.minimum(stake, TRUNCATION / (highest - self._candidates).clip(1e-12))
        self._capital[0] += np.log1p(above * (value - self._candidates))
        self._capital[1] += np.log1p(below * (self._candidates - value))
        still = self._open & (self._capital < self._bar).all(axis=0)
        self._open = still if still.any() else self._open
        before, self._seen = self._seen, self._seen + (value - self._seen) / (time + 1)
        self._spread += ((value - before) * (value - self._seen) - self._spread) / (time + 1)
        self._steps = time
