"""Runs of a few images whose every label is written down."""

from pathlib import Path

import pandas as pd

from fairbench.store.load import StoredRun
from fairbench.store.results import Provenance
from tests.stored_metrics import metrics_of


def labelled(labels, variant="original", attribute="gender", classes=("female", "male")):
    """Records of prompt -> judge -> the class of each image; None is an image without a face."""
    rows = []
    for prompt, judges in labels.items():
        for seen in zip(*judges.values(), strict=True):
            row = {"variant": variant, "prompt_id": prompt, "prompt": f"face of a {prompt}"}
            for judge, label in zip(judges, seen, strict=True):
                row[f"{judge}/face"] = float(label is not None)
                row |= {f"{judge}/{attribute}/{name}": float(label == name) for name in classes}
            rows.append(row)
    return pd.DataFrame(rows)


def stored_run(records, provenance=None, config=None, **metrics):
    """Return a run that holds these records, and was never on a disk."""
    return StoredRun(
        path=Path("nowhere"),
        config=config or {},
        provenance=provenance or Provenance(),
        records=records,
        metrics=metrics_of(**metrics),
    )
