import numpy as np
import pytest
import torch

from fairbench.diagnostics.noise_scale import gradient_noise_scale, squared_norm_and_variance


def test_both_estimates_are_right_on_average():
    generator = torch.Generator().manual_seed(0)
    mean = torch.tensor([0.3, -0.2, 0.1], dtype=torch.float64)
    spread = torch.tensor([1.0, 0.5, 2.0], dtype=torch.float64)
    found = np.array([
        squared_norm_and_variance(mean + spread * torch.randn(4, 3, generator=generator, dtype=torch.float64))
        for _ in range(6000)
    ])  # fmt: skip
    expected = (mean.square().sum().item(), spread.square().sum().item())
    error = found.std(axis=0) / len(found) ** 0.5
    assert (abs(found.mean(axis=0) - expected) < 4 * error).all()


def test_two_gradients_by_hand():
    # |g|^2: 1 and 4, mean 2.5; mean gradient (0.5, 1): 1.25; |G|^2 = 2 * 1.25 - 2.5 = 0, tr = 1.25 / 0.5
    assert squared_norm_and_variance(torch.tensor([[1.0, 0.0], [0.0, 2.0]])) == pytest.approx((0, 2.5))
    # |g|^2: 1 and 4; mean gradient 1.5: 2.25; |G|^2 = 4.5 - 2.5 = 2, tr = 0.25 / 0.5
    assert gradient_noise_scale(torch.tensor([[1.0], [2.0]])) == pytest.approx(0.25)


def test_gradients_all_alike_have_no_noise_and_opposite_ones_nothing_else():
    assert gradient_noise_scale(torch.ones(5, 7)) == pytest.approx(0, abs=1e-12)
    assert gradient_noise_scale(torch.tensor([[1.0], [-1.0]])) is None
    assert gradient_noise_scale(torch.zeros(3, 2)) is None


@pytest.mark.parametrize("factor", [0.01, 3.0])
def test_the_scale_of_the_loss_does_not_matter(factor):
    gradients = torch.randn(8, 5, generator=torch.Generator().manual_seed(1)) + 1
    assert gradient_noise_scale(factor * gradients) == pytest.approx(gradient_noise_scale(gradients))
