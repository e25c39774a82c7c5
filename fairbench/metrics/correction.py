"""What is there, from what a judge says: its known errors taken back out of the class frequencies.

A judge that gives a tenth of one class the name of another makes a fair model look biased, and a biased one
fair.
"""

import numpy as np
from numpy.typing import ArrayLike

from fairbench.errors import UserError

WORST_CONDITION = 100.0
"""Of C: how much the noise can grow when errors are taken back. Beyond it, classes are hardly told apart."""


def error_rates(confusion: ArrayLike) -> np.ndarray:
    """C_jk = P(judge says k | truth j) from a K x K table of counts, row = truth.

    Raises
    ------
    UserError
        The table is not square, holds a negative value or none at all of some class.
    """
    table = np.asarray(confusion, dtype=float)
    if table.ndim != 2 or table.shape[0] != table.shape[1] or not (table >= 0).all():
        raise UserError("a confusion matrix is K x K counts, one row per true class, none below 0")
    images = table.sum(axis=1, keepdims=True)
    if not (images > 0).all():
        raise UserError(
            f"the confusion matrix has no image of class {int(images.argmin())}: label some of every class"
        )
    return table / images


def inverse_rates(confusion: ArrayLike) -> np.ndarray:
    """A = ``(C^T)^-1``: as what is said has frequencies q = C^T p, what is there has p = A q.

    Raises
    ------
    UserError
        As `error_rates`, or the judge hardly tells two classes apart.
    """
    rates = error_rates(confusion)
    if not np.linalg.cond(rates) < WORST_CONDITION:
        raise UserError(
            "this judge hardly tells the classes apart, so its errors cannot be taken back: use another"
        )
    return np.linalg.inv(rates.T)


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
    """
    return np.asarray(frequency, dtype=float) @ inverse_rates(confusion).T


def redrawn_inverses(confusion: ArrayLike, draws: int, seed: int = 0) -> np.ndarray:
    """Draws x K x K matrices A of judges that could have given this table: rows of C ~ Dirichlet(counts).

    An error that was never seen in the table is never drawn either: some hundred labelled images of each
    class are needed before this says how well the errors are known.
    """
    error_rates(confusion)
    table = np.asarray(confusion, dtype=float)
    drawn = np.random.default_rng(seed).standard_gamma(table, (draws, *table.shape))
    return np.linalg.inv((drawn / drawn.sum(axis=2, keepdims=True)).swapaxes(1, 2))
