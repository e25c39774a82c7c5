"""The linear algebra of the closed-form methods: projections of embeddings, and one ridge solver.

Everything is float64: some of the systems are nearly singular.
"""

from itertools import combinations

import torch
from torch import Tensor


def pair_differences(classes: Tensor) -> Tensor:
    r"""Return :math:`x_{ij} - x_{ik}` for all pairs of classes j < k, (n K(K-1)/2) x D, from n x K x D."""
    pairs = combinations(range(classes.shape[1]), 2)
    return torch.cat([classes[:, j] - classes[:, k] for j, k in pairs]).double()


def calibrated_projection(differences: Tensor, strength: float) -> Tensor:
    r"""Return :math:`P = (I + \lambda M)^{-1}`, :math:`M = \frac{1}{n} \sum_i \delta_i \delta_i^T`, D x D.

    It is symmetric, and shrinks an eigenvector of M of eigenvalue :math:`\mu` by
    :math:`1 / (1 + \lambda \mu)`. Source: arXiv 2302.00070.

    Parameters
    ----------
    differences : Tensor, n x D
        Between what should come out alike.
    strength : float
        :math:`\lambda`; 0 gives the identity.
    """
    delta = differences.double()
    identity = torch.eye(delta.shape[1], dtype=torch.float64, device=delta.device)
    return torch.linalg.inv(identity + strength * delta.T @ delta / len(delta))


def orthonormal(rows: Tensor) -> Tensor:
    """Return an orthonormal basis of the span of n x D ``rows``, r x D, r their numerical rank."""
    _, values, basis = torch.linalg.svd(rows.double(), full_matrices=False)
    return basis[values > 1e-10 * values.max()]


def complement(rows: Tensor) -> Tensor:
    r"""Return :math:`I - V (V^T V)^+ V^T`, D x D, which removes the span of ``rows``, the columns of V."""
    basis = orthonormal(rows)
    return torch.eye(basis.shape[1], dtype=torch.float64, device=basis.device) - basis.T @ basis


def fair_pca(rows: Tensor, groups: Tensor, dimensions: int | None = None) -> Tensor:
    r"""Return the leading directions of ``rows`` that say nothing of the group, D x d, orthonormal columns.

    With Z the centred group indicators and R an orthonormal basis of the null space of :math:`Z^T X`,
    :math:`P = R \cdot (\text{leading eigenvectors of } R^T X^T X R)`, so :math:`Z^T X P = 0`.
    Source: arXiv 2510.21363.

    Parameters
    ----------
    rows : Tensor, n x D
        X.
    groups : Tensor, n
        The group of every row, from 0.
    dimensions : int, optional
        d; all that are left if None or more than that.
    """
    rows = rows.double()
    telling = orthonormal(group_directions(rows, groups))
    free = torch.linalg.svd(telling, full_matrices=True)[2][len(telling) :].T
    _, vectors = torch.linalg.eigh(free.T @ rows.T @ rows @ free)
    return free @ vectors.flip(1)[:, :dimensions]


def group_directions(rows: Tensor, groups: Tensor) -> Tensor:
    """Return :math:`Z^T X`, G x D: what tells the groups apart on average."""
    indicators = torch.nn.functional.one_hot(groups).to(rows.device, torch.float64)
    return (indicators - indicators.mean(0)).T @ rows.double()


def ridge(weight: Tensor, keys: Tensor, values: Tensor, strength: float, importance: Tensor) -> Tensor:
    r"""Return the matrix that sends keys to values and stays near ``weight``, out x D.

    .. math:: W' &= \arg\min_{W'} \sum_i \eta_i \lVert W' c_i - v_i \rVert^2
                    + \lambda \lVert W' - W \rVert_F^2 \\
                 &= \Big(\lambda W + \sum_i \eta_i v_i c_i^T\Big)
                    \Big(\lambda I + \sum_i \eta_i c_i c_i^T\Big)^{-1}

    Source: arXiv 2303.08084 and 2308.14761.

    Parameters
    ----------
    weight : Tensor, out x D
    keys : Tensor, n x D
    values : Tensor, n x out
    strength : float
        :math:`\lambda > 0`.
    importance : Tensor, n
        :math:`\eta \ge 0`.
    """
    weight, keys, values = weight.double(), keys.double(), values.double()
    weighted = importance.double().unsqueeze(1) * keys
    identity = torch.eye(keys.shape[1], dtype=torch.float64, device=keys.device)
    gram = strength * identity + keys.T @ weighted
    return torch.linalg.solve(gram, strength * weight + values.T @ weighted, left=False)
