"""Runs of one method, by default one that pulls the shares of every prompt half-way to even."""

import numpy as np
import pytest

from fairbench.store.load import load_run
from tests.runs.stored_runs import men, store_run

SKEWED = np.linspace(0.02, 0.98, 30)
PULLED = 0.5 + (SKEWED - 0.5) / 2


@pytest.fixture
def stored(tmp_path):
    def make(share=PULLED, **options):
        place = tmp_path / str(len(list(tmp_path.iterdir())))
        return load_run(store_run(place, {"original": men(SKEWED), "method": men(share)}, **options))

    return make
