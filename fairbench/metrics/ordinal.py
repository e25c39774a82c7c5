"""Attributes whose classes have an order, such as age: how far images would have to be moved along it.

A gap between classes does not know that young is farther from old than from middle-aged; a transport does.
"""

import numpy as np
from numpy.typing import ArrayLike

ORDINAL = ("age",)
"""Attributes with classes in order."""


def transport_to_target(
    frequency: ArrayLike, target: ArrayLike | None = None, positions: ArrayLike | None = None
) -> np.ndarray:
    """W_1 = ``min over transports of sum_kl T_kl |x_k - x_l|`` from class frequencies to the target.

    Parameters
    ----------
    frequency
        P x K class frequencies, one row per prompt; a row of nan has the distance nan.
    target
        K probabilities; None for uniform.
    positions
        x, K numbers: where the classes lie; None for 0 ... K - 1, so that the unit is one class further.

    Returns
    -------
    P distances, computed by POT. For two classes |f_1 - t_1|.

    Examples
    --------
    From all in the first of three classes, a third goes one class further and a third goes two:

    >>> transport_to_target([1, 0, 0]).round(3).tolist()
    [1.0]
    """
    import ot

    frequency = np.atleast_2d(np.asarray(frequency, dtype=float))
    prompts, classes = frequency.shape
    places = np.arange(classes) if positions is None else np.asarray(positions)
    wanted = np.full(classes, 1 / classes) if target is None else np.asarray(target, dtype=float)
    columns = np.tile(places.astype(float)[:, None], prompts)
    return ot.wasserstein_1d(columns, columns, frequency.T.copy(), np.tile(wanted[:, None], prompts), p=1)
