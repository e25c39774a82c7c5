"""Runs of methods by their names, on prompts whose chances are known, and what a comparison says of one."""

import numpy as np
import pytest

from fairbench.store.load import load_run
from tests.runs.stored_runs import men, store_run

SKEWED = np.linspace(0.02, 0.98, 30)


@pytest.fixture
def stored(tmp_path):
    def make(name, share=SKEWED, **options):
        variants = {"original": men(SKEWED)} | ({name: men(share)} if name != "original" else {})
        return load_run(store_run(tmp_path / f"{name}-{len(list(tmp_path.iterdir()))}", variants, **options))

    return make


def row(found, label, attribute="gender"):
    return next(row for row in found["attributes"][attribute] if row["label"] == label)
