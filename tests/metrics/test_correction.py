"""Judge errors taken back, against the equations solved by hand, maximum likelihood and QuaPy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from fairbench.errors import UserError
from fairbench.judges.error_rates import error_rates, inverse_rates
from fairbench.metrics.correction import corrected_frequencies, redrawn_inverses

TABLES = {2: [[98, 2], [8, 92]], 4: [[90, 4, 3, 3], [10, 80, 5, 5], [0, 20, 70, 10], [1, 2, 3, 94]]}


@given(st.lists(st.integers(1, 50), min_size=4, max_size=4))
def test_what_a_judge_says_of_known_shares_is_taken_back(weights: list[int]) -> None:
    p = np.array(weights) / sum(weights)
    said = np.array([sum(p[j] * error_rates(TABLES[4])[j, k] for j in range(4)) for k in range(4)])
    np.testing.assert_allclose(corrected_frequencies(said, TABLES[4]), p, atol=1e-12)
    np.testing.assert_allclose(np.linalg.solve(error_rates(TABLES[4]).T, said), p, atol=1e-12)


def test_two_classes_by_rogan_and_gladen() -> None:
    sensitivity, specificity, said = 0.98, 0.92, 0.37
    expected = (said + specificity - 1) / (sensitivity + specificity - 1)
    assert corrected_frequencies([said, 1 - said], TABLES[2])[0] == pytest.approx(expected)


@pytest.mark.parametrize(("classes", "counts"), [(2, [70, 90]), (4, [30, 50, 40, 40])])
def test_the_likeliest_shares(classes: int, counts: list[int]) -> None:
    """Where it lies inside the simplex, A f maximises the likelihood of what the judge said."""
    rates = error_rates(TABLES[classes])

    def unlikely(logits: np.ndarray) -> float:
        p = np.exp(logits - np.logaddexp.reduce(logits))
        return -float(np.array(counts) @ np.log(p @ rates))

    best = minimize(unlikely, np.zeros(classes), tol=1e-12).x
    likeliest = np.exp(best - np.logaddexp.reduce(best))
    found = corrected_frequencies(np.array(counts) / sum(counts), TABLES[classes])
    np.testing.assert_allclose(found, likeliest, atol=1e-4)


@pytest.mark.parametrize(("classes", "counts"), [(2, [70, 90]), (4, [30, 50, 40, 40])])
def test_quapy_agrees(classes: int, counts: list[int]) -> None:
    """QuaPy's "adjusted classify and count", from what the judge said of labelled images onwards."""
    from quapy.method.aggregative import ACC

    truth, said = (axis.ravel() for axis in np.indices((classes, classes)))
    table, seen = np.array(TABLES[classes]).ravel(), np.array(counts) / sum(counts)
    rates = ACC.getPteCondEstim(np.arange(classes), np.repeat(truth, table), np.repeat(said, table))
    found = corrected_frequencies(seen, TABLES[classes])
    for solver, tolerance in (("exact-raise", 1e-9), ("minimize", 1e-3)):
        solved = ACC.solve_adjustment(rates, seen, method="inversion", solver=solver)
        np.testing.assert_allclose(found, solved, atol=tolerance)


def test_a_perfect_judge_changes_nothing() -> None:
    np.testing.assert_allclose(
        corrected_frequencies([[0.1, 0.9], [0.5, 0.5]], [[7, 0], [0, 3]]), [[0.1, 0.9], [0.5, 0.5]]
    )


def test_drawn_judges_scatter_as_binomials_do() -> None:
    drawn = np.linalg.inv(redrawn_inverses(TABLES[2], 20_000).swapaxes(1, 2))
    np.testing.assert_allclose(drawn.mean(axis=0), error_rates(TABLES[2]), atol=0.001)
    expected = np.sqrt([0.02 * 0.98 / 101, 0.08 * 0.92 / 101])  # of a beta distribution with 100 in all
    np.testing.assert_allclose(drawn.std(axis=0)[[0, 1], [1, 0]], expected, rtol=0.03)


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ([[1, 2, 3], [4, 5, 6]], "K x K"),
        ([1, 2], "K x K"),
        ([[5, -1], [0, 5]], "K x K"),
        ([[np.nan, 1], [0, 5]], "K x K"),
        ([[5, 1], [0, 0]], "class 1"),
        ([[50, 50], [49, 51]], "hardly tells"),
    ],
)
def test_tables_that_cannot_be_used(table: list, says: str) -> None:
    with pytest.raises(UserError, match=says):
        inverse_rates(table)
