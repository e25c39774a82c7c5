"""How long one call takes: the largest settings of the paper, and the largest exact one."""

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from fairbench.alignment import expected_targets

SIZES = {"gender": 2, "race": 4, "age": 2}


@pytest.mark.parametrize(
    ("names", "count"),
    [(("gender",), 32), (("race",), 16), (("gender", "race"), 32), (("gender", "race", "age"), 40)],
    ids=["gender-closed-form", "race-969-compositions", "gender-race-200-draws", "gender-race-age-200-draws"],
)
def test_expected_targets(benchmark: BenchmarkFixture, names: tuple[str, ...], count: int) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = {name: 3 * torch.randn(count, SIZES[name], generator=generator) for name in names}
    probabilities = {name: values.softmax(dim=1) for name, values in logits.items()}
    target = {name: [1 / SIZES[name]] * SIZES[name] for name in names}
    targets = benchmark(expected_targets, probabilities, target, generator=generator)
    assert all(targets[name].q.shape == (count, SIZES[name]) for name in names)
