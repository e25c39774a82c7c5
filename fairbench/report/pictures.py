"""The pictures of a run: before and after, every prompt, and the curves of its training."""

import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from fairbench.errors import Notice, UserError, one_line
from fairbench.report import curves, grids, plots
from fairbench.storage import is_full_disk
from fairbench.store.layout import PICTURES
from fairbench.store.results import Metrics


def paint(directory: Path, records: pd.DataFrame, training: pd.DataFrame | None, metrics: Metrics) -> None:
    """Draw the pictures of a run, and of its training where there was one; one that fails stops nothing."""
    drawings: dict[str, Callable[..., Any]] = {
        "before_after": partial(grids.before_after, records, directory, metrics)
    }
    for attribute in metrics.attributes:
        name = f"{attribute}_by_prompt"
        drawings[name] = partial(plots.dumbbell, records, metrics=metrics, attribute=attribute)
    if training is not None:
        drawings["training"] = partial(_curves, training)
    for name, draw in drawings.items():
        path = directory / PICTURES / f"{name}.png"
        try:
            draw(path=path)
        except Exception as error:  # all that was measured is worth more than its picture
            if is_full_disk(error):
                raise
            message = f"{path}: could not be drawn, but all numbers are there: {one_line(error, named=True)}"
            warnings.warn(message, Notice, stacklevel=2)


def _curves(training: pd.DataFrame, path: Path) -> None:
    with suppress(UserError):  # a method may log nothing that there is a curve for
        curves.training(training, path)
