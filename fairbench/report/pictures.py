"""The pictures of a run: before and after, every prompt, and the curves of its training."""

from contextlib import suppress
from pathlib import Path

import pandas as pd

from fairbench.errors import UserError
from fairbench.report import curves, grids, plots
from fairbench.store.layout import PICTURES
from fairbench.store.results import Metrics


def paint(directory: Path, records: pd.DataFrame, training: pd.DataFrame | None, metrics: Metrics) -> None:
    """Draw the pictures of a run, and of its training where there was one."""
    pictures = directory / PICTURES
    grids.before_after(records, directory, metrics)
    for attribute in metrics.attributes:
        plots.dumbbell(records, pictures / f"{attribute}_by_prompt.png", metrics, attribute=attribute)
    if training is not None:
        with suppress(UserError):  # a method may log nothing that there is a curve for
            curves.training(training, pictures / "training.png")
