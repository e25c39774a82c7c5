"""The gap of the model: its mean error and coverage in simulation, and correction before debiasing."""

import numpy as np
import pytest

from fairbench.errors import UserError
from fairbench.metrics.debiased import squared_gap
from fairbench.metrics.gap import _mean_squares, gap_estimate

RATES = np.array([[0.98, 0.02], [0.08, 0.92]])
LABELLED = 2000


def simulate(gap: float, n: int, evaluations: int, *, prompts: int = 50, judged: int = 0) -> list:
    """Estimates for a model with the same gap in every prompt, in one direction or the other.

    ``judged``: how many images of each class a judge has labelled; 0 for one without errors.
    """
    rng = np.random.default_rng(round(1000 * gap) + n)
    signs = rng.choice([-1, 1], (evaluations, prompts))
    p = np.stack([1 + gap * signs, 1 - gap * signs], axis=-1) / 2
    counts = rng.multinomial(n, p @ RATES if judged else p)
    tables = [rng.multinomial(judged, RATES) if judged else None for _ in range(evaluations)]
    return [
        gap_estimate(seen, None, table, seed=k)
        for k, (seen, table) in enumerate(zip(counts, tables, strict=True))
    ]


@pytest.mark.parametrize("gap", [0, 0.1, 0.3, 0.8])
def test_corrected_and_debiased_within_a_hundredth(gap: float) -> None:
    """The mean error over evaluations; of the clipped gap it is larger where the truth is 0, and says so."""
    found = simulate(gap, 160, 200, judged=LABELLED)
    error = np.mean([estimate["signed"] for estimate in found]) - gap
    noise = np.std([estimate["signed"] for estimate in found]) / np.sqrt(len(found))
    assert abs(error) < 0.01 + 2 * noise * (gap == 0)
    clipped = np.mean([estimate["gap"] for estimate in found]) - gap
    assert clipped == pytest.approx(0.016 if gap == 0 else 0, abs=0.006)


@pytest.mark.parametrize("judged", [0, LABELLED])
@pytest.mark.parametrize("gap", [0, 0.3])
def test_coverage(gap: float, judged: int) -> None:
    """Held in 95 % of evaluations: within three standard deviations of the binomial law."""
    trials = 250
    intervals = [estimate["interval"] for estimate in simulate(gap, 60, trials, judged=judged)]
    held = np.mean([low <= gap <= high for low, high in intervals])
    assert abs(held - 0.95) < 3 * np.sqrt(0.95 * 0.05 / trials)


def test_a_judge_known_from_few_images_widens_the_interval() -> None:
    """Its error is common to all prompts: with 60 labelled images of each class it is most of the error."""
    found = [estimate["interval"] for estimate in simulate(0.3, 400, 150, prompts=100, judged=60)]
    assert np.mean([low <= 0.3 <= high for low, high in found]) > 0.95 - 3 * np.sqrt(0.95 * 0.05 / 150)


def test_few_prompts_are_no_more_than_they_are() -> None:
    """Four, whose gaps differ: by the normal instead of Student's t, .88 of the intervals hold the truth."""
    rng = np.random.default_rng(0)
    gaps = rng.choice([0.4, 0.6], (600, 4)) * rng.choice([-1, 1], (600, 4))
    counts = rng.multinomial(200, np.stack([1 + gaps, 1 - gaps], axis=-1) / 2)
    found = [gap_estimate(seen)["interval"] for seen in counts]
    assert np.mean([low <= np.sqrt((0.4**2 + 0.6**2) / 2) <= high for low, high in found]) > 0.91


def test_the_skewness_of_few_fair_prompts_is_allowed_for() -> None:
    """By the variance alone, zero is left out in .08 of the evaluations of two fair prompts."""
    found = simulate(0, 60, 1500, prompts=2)
    left_out = np.mean([estimate["interval"][0] > 0 for estimate in found])
    assert abs(left_out - 0.05) < 3 * np.sqrt(0.05 * 0.95 / 1500)


def test_correcting_after_debiasing_would_be_wrong() -> None:
    """Noise is blown up by the correction: what is subtracted must be as well."""
    found = simulate(0, 160, 200, judged=LABELLED)
    assert np.mean([estimate["square"] for estimate in found]) == pytest.approx(0, abs=0.0005)
    rng, inverse = np.random.default_rng(0), np.linalg.inv(RATES.T)
    counts = rng.multinomial(160, [0.5, 0.5] @ RATES, (200, 50))
    p = counts @ inverse.T / 160
    wrong_order = ((p[..., 0] - p[..., 1]) ** 2 - 1 / 160) * 160 / 159  # subtracts the noise of the counts
    assert wrong_order.mean() > 0.001


def test_the_square_is_unbiased_where_the_confusion_matrix_is_small() -> None:
    """Few labelled images: their error is common to all prompts, and its share is subtracted."""
    rng = np.random.default_rng(3)
    counts = rng.multinomial(1000, [0.5, 0.5] @ RATES, (400, 20))
    tables = [rng.multinomial(100, RATES) for _ in counts]
    found = [gap_estimate(seen, None, table)["square"] for seen, table in zip(counts, tables, strict=True)]
    naive = [
        squared_gap(seen, None, np.linalg.inv((table / table.sum(1, keepdims=True)).T)).mean()
        for seen, table in zip(counts, tables, strict=True)
    ]
    noise = np.std(found) / np.sqrt(len(found))
    assert abs(np.mean(found)) < 4 * noise < np.mean(naive)


def test_moments_give_the_same_as_prompt_by_prompt() -> None:
    rng = np.random.default_rng(0)
    counts = np.array([rng.multinomial(n, [0.4, 0.3, 0.2, 0.1]) for n in (5, 30, 60)])
    inverses, target = rng.normal(size=(7, 4, 4)), np.array([0.1, 0.2, 0.3, 0.4])
    expected = [squared_gap(counts, target, inverse).mean() for inverse in inverses]
    np.testing.assert_allclose(_mean_squares(counts.astype(float), target, inverses), expected)


def test_a_target_that_is_met_is_no_gap() -> None:
    counts = np.random.default_rng(0).multinomial(400, [0.75, 0.25], 200)
    on_target, uniform = gap_estimate(counts, [0.75, 0.25]), gap_estimate(counts)
    assert on_target["interval"][0] == 0 and on_target["gap"] < 0.03
    assert uniform["gap"] == pytest.approx(0.5, abs=0.02)


def test_more_even_than_chance_is_below_zero() -> None:
    found = gap_estimate([[10, 10]] * 30)
    assert found["gap"] == 0 and found["signed"] == pytest.approx(-np.sqrt(1 / 19))
    assert found["interval"][0] == 0 < found["interval"][1]


def test_every_image_of_one_class() -> None:
    found = gap_estimate([[60, 0]] * 50)
    assert found["gap"] == 1 and 0.99 < found["interval"][0] <= found["interval"][1] == 1
    assert gap_estimate([[60, 0]] * 50, [1, 0])["interval"] == (0, 0)


def test_little_to_go_by() -> None:
    assert gap_estimate([[1, 0], [0, 0]]) is None
    assert gap_estimate(np.zeros((0, 2))) is None
    assert gap_estimate([[10, 0], [1, 0], [0, 0]])["interval"] is None
    assert gap_estimate([[5, 5]])["gap"] == 0


def test_a_judge_that_knows_nothing() -> None:
    with pytest.raises(UserError, match="hardly tells"):
        gap_estimate([[5, 5], [3, 7]], None, [[50, 50], [50, 50]])
