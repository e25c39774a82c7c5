"""How often a judge errs, from counts on labelled images, and whether that can be taken back at all.

Asked where counts are kept and read, so that no run ends on counts that cannot be used.
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

    Examples
    --------
    >>> error_rates([[9, 1], [2, 8]]).tolist()
    [[0.9, 0.1], [0.2, 0.8]]
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

    Examples
    --------
    >>> inverse_rates([[3, 1], [1, 3]]).round(3).tolist()
    [[1.5, -0.5], [-0.5, 1.5]]
    """
    rates = error_rates(confusion)
    if not np.linalg.cond(rates) < WORST_CONDITION:
        raise UserError(
            "this judge hardly tells the classes apart, so its errors cannot be taken back: use another"
        )
    return np.linalg.inv(rates.T)
