"""FID against scipy's matrix root, KID against its kernel sums, similarities against pandas-free means."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.linalg import sqrtm
from scipy.stats import entropy as scipy_entropy

from fairbench.errors import UserError
from fairbench.metrics.quality import fid, kid, similarity, vendi_at, vendi_score


def features(seed: int, count: int, shift: float = 0.0, dim: int = 6) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(dim, dim, generator=generator)
    return torch.randn(count, dim, generator=generator) @ mixing + shift


def test_fid_by_the_formula() -> None:
    generated, reference = features(0, 80, shift=0.5), features(1, 100)
    a, b = generated.double().numpy(), reference.double().numpy()
    first, second = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(
        first + second - 2 * sqrtm(first @ second).real
    )
    assert fid(generated, reference) == {"value": pytest.approx(expected, rel=1e-6), "reason": None}
    assert fid(reference, reference)["value"] == pytest.approx(0, abs=1e-6)


def test_fid_is_refused_where_a_covariance_is_singular() -> None:
    found = fid(features(0, 6), features(1, 100))
    assert found == {"value": None, "reason": "6 images are too few for 6 features: at least 7"}
    assert np.linalg.matrix_rank(np.cov(features(0, 6).numpy(), rowvar=False)) == 5  # the seventh is needed
    assert np.linalg.matrix_rank(np.cov(features(0, 7).numpy(), rowvar=False)) == 6
    assert fid(features(0, 7), features(1, 7))["reason"] is None
    one = torch.ones(1, 1)
    assert fid(one, one)["reason"] == "1 images are too few for 1 features: at least 2"


def test_kid_by_the_kernel() -> None:
    generated, reference = features(0, 300, shift=1.0), features(1, 300)
    a, b = generated.double().numpy(), reference.double().numpy()

    def kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return (x @ y.T / x.shape[1] + 1) ** 3

    def within(x: np.ndarray) -> float:
        return (kernel(x, x).sum() - np.trace(kernel(x, x))) / (len(x) * (len(x) - 1))

    expected = within(a) + within(b) - 2 * kernel(a, b).mean()
    found = kid(generated, reference)
    assert abs(found["mean"] - expected) < 4 * found["sd"] / np.sqrt(100) + 0.01 * expected
    assert found == kid(generated, reference) != kid(generated, reference, seed=1)


def test_kid_of_equal_models_is_zero_on_average() -> None:
    generator = torch.Generator().manual_seed(0)
    pairs = torch.randn(20, 2, 40, 6, generator=generator)
    values = [kid(one, other, seed=seed) for seed, (one, other) in enumerate(pairs)]
    means = np.array([value["mean"] for value in values])
    assert abs(means.mean()) < 4 * means.std() / np.sqrt(20)


def test_kid_leaves_the_random_state_alone_and_refuses_too_few() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    kid(features(0, 10), features(1, 10))
    assert torch.equal(before, torch.get_rng_state())
    found = kid(features(0, 3), features(1, 10))
    assert found["mean"] is None and found["sd"] is None and "at least 4" in found["reason"]


def test_similarity() -> None:
    found = similarity(pd.DataFrame({"clip_t": [0.1, 0.4, np.nan], "clip_i": [np.nan] * 3}))
    assert found["clip_t"] == {
        "mean": pytest.approx(0.25),
        "sd": pytest.approx(0.3 / np.sqrt(2)),
        "images": 2,
    }
    assert found["clip_i"] == {"mean": None, "sd": None, "images": 0}
    assert "dino" not in found


def test_the_vendi_score_counts_what_is_different() -> None:
    assert vendi_score(torch.eye(5)) == pytest.approx(5)
    assert vendi_score(torch.ones(7, 3)) == pytest.approx(1)
    assert vendi_score(torch.eye(3).repeat(4, 1)) == pytest.approx(3)
    assert vendi_score(torch.zeros(0, 3)) is None and vendi_score(torch.zeros(2, 3)) is None


@pytest.mark.parametrize(("count", "dim"), [(5, 9), (9, 5)])
def test_the_vendi_score_by_the_entropy_of_the_kernel(count: int, dim: int) -> None:
    values = features(3, count, dim=dim)
    unit = (values / values.norm(dim=1, keepdim=True)).double().numpy()
    spectrum = np.linalg.svd(unit / np.sqrt(count), compute_uv=False) ** 2
    assert vendi_score(values) == pytest.approx(np.exp(scipy_entropy(spectrum)))


def test_the_vendi_score_at_a_size_is_the_mean_over_choices() -> None:
    values = features(3, 40)
    assert vendi_at(values, 40) == pytest.approx(vendi_score(values))
    few = [vendi_score(values[list(rows)]) for rows in combinations(range(12), 2)]
    assert vendi_at(values[:12], 2, draws=4000) == pytest.approx(np.mean(few), rel=0.01)
    assert vendi_at(values[:12], 2) != vendi_at(values[:12], 2, seed=1)


@pytest.mark.parametrize("n", [0, 4])
def test_no_vendi_score_at_more_images_than_there_are(n: int) -> None:
    with pytest.raises(UserError, match=f"the Vendi score at {n} of 3 images: name from 1 to 3"):
        vendi_at(torch.eye(3), n)
