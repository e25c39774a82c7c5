"""What is there, from what a judge says: its known errors taken back out of the class frequencies.

A judge that gives a tenth of one class the name of another makes a fair model look biased, and a biased one
fair.
"""

import numpy as np
from numpy.typing import ArrayLike

from fairbench.judges.error_rates import error_rates, inverse_rates


def corrected_frequencies(frequency: ArrayLike, confusion: ArrayLike) -> np.ndarray:
    """Shares p = A f, unbiased where the table is exact; single shares may fall below 0 or exceed 1 by noise.

    Parameters
    ----------
    frequency
        ... x K frequencies of what the judge says.
    confusion
        K x K counts of labelled images, row = truth.

    References
    ----------
    Rogan and Gladen, "Estimating prevalence from the results of a screening test", 1978, for two classes;
    "adjusted classify and count" in the quantification literature.

    Examples
    --------
    Of as many of both classes, this judge calls 0.9 / 2 + 0.2 / 2 the first one:

    >>> corrected_frequencies([0.55, 0.45], [[9, 1], [2, 8]]).round(3).tolist()
    [0.5, 0.5]
    """
    return np.asarray(frequency, dtype=float) @ inverse_rates(confusion).T


def redrawn_inverses(confusion: ArrayLike, draws: int, seed: int = 0) -> np.ndarray:
    """Draws x K x K matrices A of judges that could have given this table: rows of C ~ Dirichlet(counts).

    An error that was never seen in the table is never drawn either: some hundred labelled images of each
    class are needed before this says how well the errors are known.

    Examples
    --------
    A judge that was never seen to err:

    >>> redrawn_inverses([[5, 0], [0, 5]], draws=1).round(3).tolist()
    [[[1.0, 0.0], [0.0, 1.0]]]
    """
    error_rates(confusion)
    table = np.asarray(confusion, dtype=float)
    drawn = np.random.default_rng(seed).standard_gamma(table, (draws, *table.shape))
    return np.linalg.inv((drawn / drawn.sum(axis=2, keepdims=True)).swapaxes(1, 2))
