"""The interval of the mean: how often it holds the truth, and what it does when there is little to go by."""

import numpy as np
import pytest
from scipy.stats import norm, ttest_1samp

from fairbench.metrics.intervals import bounds_interval, mean_interval, t_interval


def test_coverage_with_prompts_as_clusters() -> None:
    """Prompts differ in their true bias and each is measured on few images: the mean of that is held."""
    rng = np.random.default_rng(0)
    trials, held = 300, 0
    population = np.abs(2 * rng.binomial(16, rng.beta(0.6, 0.6, 200_000)) / 16 - 1)
    for _ in range(trials):
        interval = mean_interval(rng.choice(population, 40), resamples=999, seed=int(rng.integers(1 << 30)))
        assert interval is not None
        held += interval[0] <= population.mean() <= interval[1]
    assert 0.91 <= held / trials <= 0.985


def test_close_to_the_normal_one_for_many_prompts() -> None:
    values = np.random.default_rng(1).normal(0.4, 0.1, 400)
    margin = 1.96 * values.std(ddof=1) / 20
    expected = (values.mean() - margin, values.mean() + margin)
    assert mean_interval(values) == pytest.approx(expected, abs=0.001)


def test_it_is_bias_corrected_and_accelerated() -> None:
    """Efron's formulas by hand, on a skewed sample: the percentiles that are taken are not .025 and .975."""
    sample = np.random.default_rng(2).lognormal(0, 1, 12)
    means = np.random.default_rng(3).choice(sample, (200_000, 12)).mean(axis=1)
    correction = norm.ppf((means < sample.mean()).mean())
    without = (sample.sum() - sample) / 11  # the mean without each
    skew = ((without.mean() - without) ** 3).sum() / (6 * ((without.mean() - without) ** 2).sum() ** 1.5)
    shifted = correction + norm.ppf([0.025, 0.975])
    low, high = np.quantile(means, norm.cdf(correction + shifted / (1 - skew * shifted)))
    plain = np.quantile(means, [0.025, 0.975])
    assert mean_interval(sample) == pytest.approx((low, high), rel=0.03)
    assert high > 1.06 * plain[1] and low > 1.06 * plain[0]


def test_seeded_and_wider_with_more_confidence() -> None:
    values = [0.1, 0.5, 0.2, 0.9, 0.4]
    narrow, wide = mean_interval(values, confidence=0.8), mean_interval(values)
    assert narrow is not None and wide is not None
    assert wide == mean_interval(values) and wide[0] < narrow[0] < narrow[1] < wide[1]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], None),
        ([0.3], None),
        ([0.3, None, float("nan")], None),
        ([0.3, 0.3, 0.3], (0.3, 0.3)),
        ([0.0, 1.0], (0.0, 1.0)),
    ],
)
def test_little_to_go_by(values: list[float | None], expected: tuple[float, float] | None) -> None:
    assert mean_interval(values) == expected


@pytest.mark.parametrize("values", [[0.0, 0.0, 1e-9], [0.1 + 0.2, 0.3], [0.0] * 30 + [1.0], [1.0, 1.0, 0.0]])
def test_always_numbers_around_the_mean(values: list[float]) -> None:
    interval = mean_interval(values)
    assert interval is not None
    assert interval[0] <= np.mean(values) <= interval[1]


def test_students_interval_is_scipys() -> None:
    values = [0.1, None, 0.5, 0.2, float("nan"), 0.9, 0.4]
    expected = ttest_1samp([0.1, 0.5, 0.2, 0.9, 0.4], 0).confidence_interval(0.9)
    assert t_interval(values, confidence=0.9) == pytest.approx((expected.low, expected.high))
    assert t_interval([0.3]) is None and t_interval([0.3, 0.3]) == (0.3, 0.3)


@pytest.mark.parametrize("of", [mean_interval, t_interval])
@pytest.mark.parametrize("share", [0.5, 0.65])
def test_coverage_of_the_mean_measured_bias(of, share: float) -> None:
    """Of the bias of 60 images, noise floor included: within three sd of the binomial law."""
    rng, trials = np.random.default_rng(1), 300
    biases = np.abs(2 * rng.binomial(60, share, (trials, 50)) / 60 - 1)
    expected = np.abs(2 * rng.binomial(60, share, 1_000_000) / 60 - 1).mean()
    options = {"resamples": 999} if of is mean_interval else {}
    intervals = [of(values, **options) for values in biases]
    held = np.mean([low <= expected <= high for low, high in intervals])
    assert abs(held - 0.95) < 3 * np.sqrt(0.95 * 0.05 / trials)


def test_faceless_images_widen_the_interval() -> None:
    bounds = np.array([[0.1, 0.3], [0.2, 0.5], [0.0, 0.2]])
    low, high = bounds_interval(bounds)
    assert low == t_interval(bounds[:, 0])[0] and high == t_interval(bounds[:, 1])[1]
    assert bounds_interval([[0.1, 0.1], [0.2, 0.2]]) == t_interval([0.1, 0.2])
    assert bounds_interval([[0.1, 0.2]]) is None and bounds_interval([]) is None
