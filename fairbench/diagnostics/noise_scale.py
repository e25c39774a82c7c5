"""How noisy a gradient is: the batch size at which its noise is as large as the gradient itself."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def gradient_noise_scale(gradients: Tensor) -> float | None:
    r"""Return the simple noise scale :math:`\mathrm{tr}\,\Sigma / |G|^2`, from batches of 1 and of N.

    .. math:: \widehat{|G|^2} = \frac{N\,|\bar g|^2 - \overline{|g|^2}}{N - 1}, \qquad
              \widehat{\mathrm{tr}\,\Sigma} = \frac{\overline{|g|^2} - |\bar g|^2}{1 - 1/N}

    Parameters
    ----------
    gradients : Tensor, N x P
        One gradient per image, N at least 2.

    Returns
    -------
    In images. None where the unbiased estimate of :math:`|G|^2` is not positive: N images do not tell the
    gradient from noise.

    References
    ----------
    McCandlish et al., "An Empirical Model of Large-Batch Training", arXiv 1812.06162, appendix A.1.

    Examples
    --------
    The variance is 2, the squared gradient 3, see `squared_norm_and_variance`:

    >>> import torch
    >>> round(gradient_noise_scale(torch.tensor([[1.0], [3.0]])), 3)
    0.667
    """
    squared, trace = squared_norm_and_variance(gradients)
    return trace / squared if squared > 0 and math.isfinite(trace / squared) else None


def squared_norm_and_variance(gradients: Tensor) -> tuple[float, float]:
    r"""Return unbiased estimates of :math:`|G|^2` and :math:`\mathrm{tr}\,\Sigma` from N x P gradients.

    Examples
    --------
    The variance of 1 and 3 is 2, and their squared mean exceeds the squared gradient by half of it:

    >>> import torch
    >>> squared_norm_and_variance(torch.tensor([[1.0], [3.0]]))
    (3.0, 2.0)
    """
    gradients = gradients.double()
    count = len(gradients)
    of_one = gradients.square().sum(1).mean().item()
    of_all = gradients.mean(0).square().sum().item()
    return (count * of_all - of_one) / (count - 1), (of_one - of_all) / (1 - 1 / count)
