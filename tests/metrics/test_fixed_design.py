import numpy as np
import pytest

from fairbench.metrics.debiased import squared_gap
from fairbench.metrics.fixed_design import images_for_width


def gap_of(counts):
    return np.sqrt(max(0, np.mean(squared_gap(counts))))


@pytest.mark.parametrize(("classes", "gap"), [(2, 0.8), (2, 0.4), (4, 0.3)])
def test_the_gap_scatters_as_much_as_the_width_says(classes, gap):
    rng, prompts, width = np.random.default_rng(0), 20, 0.1
    n = images_for_width(prompts, classes, width, gap=gap) // prompts
    favoured = (1 + (classes - 1) * gap / np.sqrt(2 / classes)) / classes
    p = np.array([favoured, *[(1 - favoured) / (classes - 1)] * (classes - 1)])
    assert gap_of([p * 1e9]) == pytest.approx(gap, rel=1e-4)
    found = [gap_of(rng.multinomial(n, p, size=prompts)) for _ in range(2000)]
    low, high = np.quantile(found, [0.025, 0.975])
    assert high - low == pytest.approx(width, rel=0.12)


def test_not_knowing_the_gap_costs_more_and_narrower_costs_more():
    known = [images_for_width(50, 2, 0.05, gap=gap) for gap in (0.0, 0.2, 0.5, 0.9)]
    unknown = images_for_width(50, 2, 0.05)
    assert unknown >= max(known) > min(known)
    assert images_for_width(50, 2, 0.1) < unknown
