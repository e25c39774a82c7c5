"""What debiasing may cost: distance to reference images (FID, KID) and similarity to prompt and original.

Both distances take features that are computed already, by any network; the arithmetic is torchmetrics'.
"""

import warnings
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from fairbench.errors import UserError
from fairbench.records import SIMILARITIES

KID_SUBSETS, KID_SUBSET_SIZE = 100, 1000
"""The usual ones; smaller subsets where there are not twice as many images."""


class _Given(nn.Module):
    """The feature extractor of features that are given: nothing is left to extract."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.num_features = dim

    def forward(self, features: Tensor) -> Tensor:
        return features


def fid(generated: Tensor, reference: Tensor) -> dict[str, Any]:
    """FID = ``|m_1 - m_2|^2 + tr(C_1 + C_2 - 2 (C_1 C_2)^(1/2))`` of the means and covariances of features.

    Parameters
    ----------
    generated, reference
        N x D and M x D features.

    Returns
    -------
    ``value``, and ``reason`` for a value of None: with at most as many images as features the covariance is
    singular and the number says more of the images' count than of their quality.

    References
    ----------
    Heusel et al., "GANs Trained by a Two Time-Scale Update Rule", NeurIPS 2017.

    Examples
    --------
    Means 1 and 2, and equal variances:

    >>> found = fid(torch.tensor([[0.0], [2.0]]), torch.tensor([[1.0], [3.0]]))
    >>> round(found["value"], 3)
    1.0
    """
    dim = reference.shape[1]
    fewest = min(len(generated), len(reference))
    if fewest <= dim:
        reason = f"{fewest} images are too few for {dim} features: at least {dim + 1}"
        return {"value": None, "reason": reason}
    metric = FrechetInceptionDistance(feature=_Given(dim))
    return {"value": float(_filled(metric, generated, reference).compute()), "reason": None}


def kid(generated: Tensor, reference: Tensor, *, seed: int = 0) -> dict[str, Any]:
    """KID = unbiased squared MMD with the kernel ``(x.y / D + 1)^3``, mean and sd over random subsets.

    Parameters
    ----------
    generated, reference
        N x D and M x D features.
    seed
        Of the subsets, which are of half the images, up to 1000.

    Returns
    -------
    ``mean`` and ``sd``, and ``reason`` where they are None: fewer than four images.

    References
    ----------
    Binkowski et al., "Demystifying MMD GANs", ICLR 2018.

    Examples
    --------
    With one feature, 0 on one side and 1 on the other, this is ``1 + 2^3 - 2``:

    >>> found = kid(torch.zeros(4, 1), torch.ones(4, 1))
    >>> round(found["mean"], 3), round(found["sd"], 3)
    (7.0, 0.0)
    """
    fewest = min(len(generated), len(reference))
    if fewest < 4:
        return {"mean": None, "sd": None, "reason": f"{fewest} images are too few: at least 4"}
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")  # that it keeps the features in memory, where they are already
        torch.manual_seed(seed)
        size = min(KID_SUBSET_SIZE, fewest // 2)
        metric = KernelInceptionDistance(_Given(reference.shape[1]), subsets=KID_SUBSETS, subset_size=size)
        mean, sd = _filled(metric, generated, reference).compute()
    return {"mean": float(mean), "sd": float(sd), "reason": None}


def _filled(metric: Any, generated: Tensor, reference: Tensor) -> Any:
    metric.update(reference.double().cpu(), real=True)
    metric.update(generated.double().cpu(), real=False)
    return metric


def vendi_score(features: Tensor) -> float | None:
    """Effective number of different images, ``exp(-sum_i l_i log l_i)``, l the eigenvalues of K / n.

    K holds the cosines of all pairs. From 1 (all alike) to n (all orthogonal); it grows with n, so compare it
    at equal n.

    Parameters
    ----------
    features
        n x D.

    Returns
    -------
    The score, or None for no image, or one without any feature.

    References
    ----------
    Friedman and Dieng, "The Vendi Score", TMLR 2023.

    Examples
    --------
    >>> round(vendi_score(torch.eye(3)), 3), round(vendi_score(torch.ones(3, 3)), 3)
    (3.0, 1.0)
    """
    if not len(features):
        return None
    rows = features.double().cpu()
    unit = rows / rows.norm(dim=1, keepdim=True)
    if not unit.isfinite().all():
        return None
    small = unit @ unit.T if len(unit) <= unit.shape[1] else unit.T @ unit  # the same eigenvalues but zeros
    spectrum = torch.linalg.eigvalsh(small / len(unit)).clamp(min=0)
    return float(torch.special.entr(spectrum).sum().exp())


def vendi_at(features: Tensor, n: int, *, draws: int = 10, seed: int = 0) -> float | None:
    """Mean Vendi score of ``draws`` random choices of n images, so that groups of different size compare.

    Raises
    ------
    UserError
        n is not a number of images from 1 to all there are.

    Examples
    --------
    >>> round(vendi_at(torch.eye(4), 2), 3)
    2.0
    """
    if not 1 <= n <= len(features):
        raise UserError(f"the Vendi score at {n} of {len(features)} images: name from 1 to {len(features)}")
    rng = np.random.default_rng(seed)
    chosen = [rng.choice(len(features), n, replace=False) for _ in range(draws if n < len(features) else 1)]
    scores = [vendi_score(features[torch.from_numpy(rows)]) for rows in chosen]
    return None if None in scores else float(np.mean(np.array(scores, dtype=float)))


def similarity(records: pd.DataFrame) -> dict[str, dict[str, float | int | None]]:
    """Mean and sample standard deviation over images of CLIP-T, CLIP-I and DINO, where they were measured.

    Examples
    --------
    >>> similarity(pd.DataFrame({"dino": [0.5, 0.5, None]}))
    {'dino': {'mean': 0.5, 'sd': 0.0, 'images': 2}}
    """
    found = {}
    for name in SIMILARITIES:
        if name in records:
            values = records[name].dropna()
            mean, sd = _number(values.mean()), _number(values.std())
            found[name] = {"mean": mean, "sd": sd, "images": len(values)}
    return found


def _number(value: float) -> float | None:
    return None if pd.isna(value) else float(value)
