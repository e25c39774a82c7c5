"""The noise floor: the bias that a model exactly on target shows with so many images, by chance alone.

Published bias values mean little without it: it is 0.10 for two classes and 60 images.
"""

from functools import cache

import numpy as np
from numpy.typing import ArrayLike

from fairbench.metrics.bias import pairs


def noise_floor(n: ArrayLike, classes: int, target: ArrayLike | None = None) -> float | None:
    """E[bias] = ``mean over i < j of E|n_i - n_j| / n`` for (n_1 ... n_K) ~ Multinomial(n, target), exactly.

    Parameters
    ----------
    n
        Usable images, of one prompt or of each; then the mean over prompts. Prompts with none are left out.
    classes
        K.
    target
        K probabilities that the model follows; None for uniform. Any other has a bias of its own, included.

    Returns
    -------
    The expected bias, or None if no prompt has an image.
    """
    sizes = [int(size) for size in np.atleast_1d(n) if size > 0]
    if not sizes:
        return None
    first, second = pairs(np.full(classes, 1 / classes) if target is None else target)
    gaps = [_expected_gap(size, p, q) for size in sizes for p, q in zip(first, second, strict=True)]
    return float(np.mean(gaps))


@cache
def _expected_gap(n: int, p: float, q: float) -> float:
    """E|n_i - n_j| / n, from the exact law of n_i - n_j.

    The difference is a sum of n steps of +1 (p), -1 (q) or 0: its characteristic function is the n-th power
    of one step's, and as it takes 2n + 1 values, a Fourier transform of that length gives their chances.
    """
    steps = np.fft.fftfreq(2 * n + 1, 1 / (2 * n + 1))
    one_step = np.exp(2j * np.pi * steps / (2 * n + 1))
    law = np.fft.fft((p * one_step + q / one_step + (1 - p - q)) ** n).real / (2 * n + 1)
    return float(np.abs(steps) @ law / n)
