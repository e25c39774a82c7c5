"""From records to counts: how often each class was seen, per variant and prompt.

An image counts for its most probable class where the judge sees a face; the others are "no face".
"""

from dataclasses import dataclass
from textwrap import shorten

import numpy as np
import pandas as pd

from fairbench.metrics.bias import bias
from fairbench.metrics.counts import judged_labels
from fairbench.report import style
from fairbench.store.results import Metrics


@dataclass(frozen=True)
class Shares:
    r"""How often each class of one attribute was seen.

    .. math:: f_k = \frac{1}{n} \sum_i [\arg\max_j p_{ij} = k], \quad n = \text{number of images with a face}

    Attributes
    ----------
    table
        Indexed by (variant, prompt_id): one column per class (their sum is 1; NaN where no image has a face),
        then "n" and "images".
    target
        The frequencies asked for, in the order of ``classes``.
    """

    attribute: str
    classes: list[str]
    table: pd.DataFrame
    target: np.ndarray

    @classmethod
    def of(
        cls, records: pd.DataFrame, judge: str, attribute: str, metrics: Metrics | None = None
    ) -> "Shares":
        """Count one attribute as `judge` sees it; the target is that of `metrics`, else uniform."""
        labels, classes = judged_labels(records, judge, attribute)
        stated = metrics.target.get(attribute) if metrics else None
        uniform = np.full(len(classes), 1 / len(classes))
        return cls(
            attribute,
            classes,
            _count(records, labels, classes),
            uniform if stated is None else np.asarray(stated, float),
        )

    @property
    def bias(self) -> pd.Series:
        """The bias of every row from the target, as `fairbench.metrics.bias.bias` defines it."""
        return pd.Series(bias(self.table[self.classes], self.target), index=self.table.index)

    def seen(self, variant: str, prompt_id: str) -> np.ndarray:
        """Return the share of every class among all images of a prompt; the rest shows no face."""
        row = self.table[self.classes].mul(self.table["n"] / self.table["images"], axis=0).fillna(0.0)
        return row.to_numpy(float)[self.table.index.get_loc((variant, prompt_id))]

    @property
    def colours(self) -> list[str]:
        """One colour per class."""
        return style.colours(self.attribute, self.classes)


def captions(records: pd.DataFrame, width: int = 52) -> pd.Series:
    """Return what a reader calls each prompt, by prompt_id: its concept, else its text."""
    rows = records.drop_duplicates("prompt_id").set_index("prompt_id")
    names = rows["prompt"] if "concept" not in rows else rows["concept"].fillna(rows["prompt"])
    return names.map(lambda name: _shortened(str(name), width))


def _shortened(text: str, width: int) -> str:
    """Cut behind a word, or, of a script without spaces, wherever half the letters fit: they are wide."""
    shown = shorten(text, width, placeholder=" …")
    return shown if shown.strip(" …") else f"{text[: width // 2]} …"


def _count(records: pd.DataFrame, labels: np.ndarray, classes: list[str]) -> pd.DataFrame:
    seen = pd.DataFrame({c: labels == k for k, c in enumerate(classes)} | {"n": labels >= 0, "images": True})
    seen.index = pd.MultiIndex.from_frame(records[["variant", "prompt_id"]])
    counts = seen.groupby(level=["variant", "prompt_id"]).sum()
    frequencies = counts[classes].div(counts["n"].where(counts["n"] > 0), axis=0)
    return frequencies.join(counts[["n", "images"]])
