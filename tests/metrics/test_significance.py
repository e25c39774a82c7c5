"""The paired test against all swaps by hand, and its level under the null hypothesis."""

from itertools import product

import numpy as np
import pytest

from fairbench.metrics.significance import paired_permutation_test


def by_id(values: list[float | None]) -> dict[str, float | None]:
    return {str(k): value for k, value in enumerate(values)}


def test_all_swaps() -> None:
    rng = np.random.default_rng(0)
    original, method = rng.uniform(size=8), rng.uniform(size=8) - 0.2
    change = method - original
    swapped = np.array(list(product([1, -1], repeat=8))) @ change / 8
    found = paired_permutation_test(by_id(original.tolist()), by_id(method.tolist()))
    assert found is not None
    assert found["difference"] == pytest.approx(change.mean())
    assert found["p_value"] == pytest.approx(np.mean(np.abs(swapped) >= abs(change.mean()) - 1e-12))
    assert found["prompts"] == 8


def test_paired_by_prompt_and_only_where_both_have_a_value() -> None:
    original = {"a": 0.5, "b": 0.7, "c": None, "d": 0.1, "only": 0.0}
    method = {"d": 0.0, "b": 0.4, "a": 0.3, "c": 0.2, "new": 1.0}
    found = paired_permutation_test(original, method)
    assert found is not None and found["prompts"] == 3
    assert found["difference"] == pytest.approx(-0.2)
    assert found["p_value"] == pytest.approx(2 / 8)


def test_nothing_to_compare_and_nothing_changed() -> None:
    assert paired_permutation_test({"a": None}, {"a": 0.5}) is None
    assert paired_permutation_test({}, {}) is None
    same = by_id([0.1, 0.2, 0.3])
    assert paired_permutation_test(same, same) == {"difference": 0.0, "p_value": 1.0, "prompts": 3}


def test_level_and_power() -> None:
    rng = np.random.default_rng(2)

    def rejected(shift: float) -> float:
        tests = [
            paired_permutation_test(
                by_id(rng.normal(size=20).tolist()), by_id(rng.normal(shift, 1, 20).tolist()), resamples=299
            )
            for _ in range(200)
        ]
        return float(np.mean([found is not None and found["p_value"] <= 0.05 for found in tests]))

    assert rejected(0) <= 0.09
    assert rejected(1.5) >= 0.9
