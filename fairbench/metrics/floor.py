"""The noise floor: the bias that a model exactly on target shows with so many images, by chance alone.

Published bias values mean little without it: it is 0.10 for two classes and 60 images.
"""

from functools import cache

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import norm

from fairbench.metrics.bias import pairs
from fairbench.metrics.debiased import sampling_variance, uniform_or


def noise_floor(n: ArrayLike, classes: int, target: ArrayLike | None = None) -> float | None:
    """E[bias] = ``mean over i < j of E|(n_i - n_j) / n - (t_i - t_j)|`` for n_k ~ Multinomial(n, t), exactly.

    Parameters
    ----------
    n
        Usable images, of one prompt or of each; then the mean over prompts. Prompts with none are left out.
    classes
        K.
    target
        K probabilities t that the model follows and the bias is measured from; None for uniform.

    Returns
    -------
    The expected bias, or None if no prompt has an image.

    Examples
    --------
    Two images are of the same class half the time:

    >>> round(noise_floor(2, 2), 3)
    0.5
    """
    sizes = [int(size) for size in np.atleast_1d(n) if size > 0]
    if not sizes:
        return None
    first, second = pairs(uniform_or(target, classes))
    gaps = [_expected_gap(size, p, q) for size in sizes for p, q in zip(first, second, strict=True)]
    return max(0.0, float(np.mean(gaps)))  # rounding may end below zero


def minimum_detectable_gap(
    n: ArrayLike, classes: int, target: ArrayLike | None = None, *, power: float = 0.8, level: float = 0.05
) -> float | None:
    """Smallest gap g that the debiased estimate tells from 0 with this ``power`` by a test at ``level``.

    The mean over prompts of `squared_gap` is close to normal with mean g^2 and variance v_0 + s g^2, see
    `sampling_variance`. The test rejects above ``z_level sqrt(v_0)``; hence
    ``g^2 - z_level sqrt(v_0) = z_power sqrt(v_0 + s g^2)``, solved for g.

    Parameters
    ----------
    n
        Usable images of each prompt. Prompts with fewer than two are left out.
    classes
        K.
    target
        K probabilities; None for uniform.
    power, level
        How often a model with this gap, and one without any, is found to have one.

    Returns
    -------
    The gap, the same in every prompt, or None if no prompt has two images. It may exceed what is possible.

    Examples
    --------
    At a power of one half this is the root of the threshold, here ``1.645 sqrt(1 / 100)``:

    >>> round(minimum_detectable_gap([2] * 100, 2, power=0.5), 3)
    0.406
    """
    sizes = np.array([size for size in np.atleast_1d(n) if size > 1], dtype=float)
    if not len(sizes):
        return None
    target = uniform_or(target, classes)
    null = sampling_variance(sizes, target).mean() / len(sizes)
    slope = sampling_variance(sizes, target, square=1.0).mean() / len(sizes) - null
    threshold, square = norm.isf(level) * np.sqrt(null), norm.isf(1 - power) ** 2
    half = threshold + square * slope / 2
    return float(np.sqrt(half + np.sqrt(half**2 - threshold**2 + square * null)))


@cache
def _expected_gap(n: int, p: float, q: float) -> float:
    """E|(n_i - n_j) / n - (p - q)|, from the exact law of n_i - n_j.

    The difference is a sum of n steps of +1 (p), -1 (q) or 0: its characteristic function is the n-th power
    of one step's, and as it takes 2n + 1 values, a Fourier transform of that length gives their chances.
    """
    steps = np.fft.fftfreq(2 * n + 1, 1 / (2 * n + 1))
    one_step = np.exp(2j * np.pi * steps / (2 * n + 1))
    law = np.fft.fft((p * one_step + q / one_step + (1 - p - q)) ** n).real / (2 * n + 1)
    return float(np.abs(steps / n - (p - q)) @ law)
