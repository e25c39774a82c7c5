import numpy as np

from fairbench.comparison.compare import compare
from fairbench.store.load import load_run
from tests.runs.stored_runs import men, store_run


def test_ten_runs_of_fifty_prompts(benchmark, tmp_path):
    shares = np.linspace(0.1, 0.9, 50)
    runs = [
        load_run(
            store_run(
                tmp_path / f"m{k}",
                {"original": men(shares, 50), f"m{k}": men(0.5 + (shares - 0.5) * k / 10, 50)},
                images=60,
                noise=k,
            )
        )
        for k in range(10)
    ]
    assert len(benchmark(compare, runs)["tests"]) == 55
