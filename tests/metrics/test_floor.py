"""The noise floor against the sums it stands for, a simulation, and the figures for the paper's settings."""

import numpy as np
import pytest
from scipy.stats import binom, multinomial

from fairbench.metrics.bias import bias
from fairbench.metrics.floor import minimum_detectable_gap, noise_floor
from fairbench.metrics.gap import gap_estimate


@pytest.mark.parametrize(("n", "p"), [(1, 0.5), (2, 0.5), (60, 0.5), (400, 0.5), (33, 0.25), (16, 0.0)])
def test_two_classes_by_the_binomial(n: int, p: float) -> None:
    k = np.arange(n + 1)
    expected = binom.pmf(k, n, p) @ np.abs(2 * k / n - 1 - (2 * p - 1))
    assert noise_floor(n, 2, [p, 1 - p]) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("p", [[1 / 3] * 3, [0.2, 0.3, 0.5], [0.1, 0.2, 0.3, 0.4]])
def test_more_classes_by_all_outcomes(p: list[float]) -> None:
    n = 7
    outcomes = np.array([index for index in np.ndindex(*[n + 1] * len(p)) if sum(index) == n])
    expected = multinomial.pmf(outcomes, n, p) @ bias(outcomes / n, p)
    assert noise_floor(n, len(p), p) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("classes", "n", "floor"),
    [
        (2, 32, 0.140),
        (2, 48, 0.115),
        (2, 60, 0.102),
        (2, 160, 0.063),
        (4, 80, 0.063),
        (4, 160, 0.045),
        (8, 160, 0.031),
    ],
)
def test_the_paper_protocol(classes: int, n: int, floor: float) -> None:
    assert noise_floor(n, classes) == pytest.approx(floor, abs=0.001)


def test_simulation() -> None:
    drawn = np.random.default_rng(0).multinomial(40, np.full(8, 1 / 8), 20_000)
    assert noise_floor(40, 8) == pytest.approx(bias(drawn / 40).mean(), abs=0.001)


def test_prompts_of_unequal_size() -> None:
    one, other = noise_floor(10, 4), noise_floor(30, 4)
    assert one is not None and other is not None
    assert noise_floor([10, 0, 30], 4) == pytest.approx((one + other) / 2)
    assert noise_floor([0, 0], 4) is None and noise_floor([], 4) is None


@pytest.mark.parametrize("classes", [2, 4])
def test_a_detectable_gap_is_detected_four_times_in_five(classes: int) -> None:
    rng, trials, prompts = np.random.default_rng(classes), 200, 50
    gap = minimum_detectable_gap([60] * prompts, classes)
    assert gap is not None
    favoured = np.eye(classes)[rng.integers(classes, size=(trials, prompts))]
    lean = gap * np.sqrt(
        classes / 2
    )  # (1 - w) / K + w for one class is a root mean square gap of w sqrt(2 / K)
    counts = rng.multinomial(60, (1 - lean) / classes + lean * favoured)
    found = [gap_estimate(seen) for seen in counts]
    detected = np.mean([estimate["interval"][0] > 0 for estimate in found])
    assert abs(detected - 0.8) < 3 * np.sqrt(0.8 * 0.2 / trials)


def test_more_images_more_prompts_and_less_power_find_smaller_gaps() -> None:
    base = minimum_detectable_gap([60] * 50, 2)
    assert base == pytest.approx(0.098, abs=0.001)
    for other in (
        minimum_detectable_gap([160] * 50, 2),
        minimum_detectable_gap([60] * 200, 2),
        minimum_detectable_gap([60] * 50, 2, power=0.5),
        minimum_detectable_gap([60] * 50, 2, [0.9, 0.1]),
    ):
        assert other < base
    assert minimum_detectable_gap([1, 0], 2) is None
    assert minimum_detectable_gap([60, 1, 0], 2) == minimum_detectable_gap([60], 2)
