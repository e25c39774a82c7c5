"""Thousands of evaluations of known models: how far off the estimates are, how often intervals hold.

Counts are drawn, as the estimators see nothing else; `fairbench.validity.pictures` has pictures.
"""

import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from fairbench.metrics.bias import bias
from fairbench.metrics.gap import gap_estimate
from fairbench.metrics.intervals import mean_interval, t_interval
from fairbench.metrics.significance import equivalence_test, floor_test, sign_flip_test
from fairbench.validity.populations import EVERY_PROMPT, POPULATIONS, Population, judge_rates

PROMPTS = 50
LABELLED = 1000
"""Images of each class that the judge's confusion matrix is known from."""
RESAMPLES = 999
"""Of the bootstrap and of the permutation test, fewer than in an evaluation."""
LEVEL = 0.05


@dataclass(frozen=True)
class Setting:
    """One row of what is varied: K classes, n images of each prompt, and the model."""

    classes: int
    images: int
    population: Population

    def generator(self, seed: int, purpose: str) -> np.random.Generator:
        """Return the chance of this setting alone, the same whichever others are simulated."""
        name = f"{purpose}|{self.classes}|{self.images}|{self.population.name}"
        return np.random.default_rng([seed, zlib.crc32(name.encode())])

    @property
    def columns(self) -> dict[str, Any]:
        """What names this setting in a table."""
        return {"classes": self.classes, "images": self.images, "model": self.population.name}


def settings(classes: Iterable[int], images: Iterable[int]) -> list[Setting]:
    """Return every combination, with every known model."""
    return [Setting(k, n, population) for k in classes for n in images for population in POPULATIONS]


def simulate(
    chosen: list[Setting], evaluations: int, seed: int, jobs: int
) -> Iterator[tuple[pd.DataFrame, ...]]:
    """Yield the rows of `estimates` and of `rejections`, setting by setting, as they are ready.

    Parameters
    ----------
    chosen
        What to simulate.
    evaluations
        How often each.
    seed
        Of everything.
    jobs
        Processes.
    """
    with ProcessPoolExecutor(jobs) as pool:
        yield from pool.map(_simulate, ((setting, evaluations, seed) for setting in chosen))


def _simulate(arguments: tuple[Setting, int, int]) -> tuple[pd.DataFrame, ...]:
    return estimates(*arguments), rejections(*arguments)


def estimates(setting: Setting, evaluations: int, seed: int) -> pd.DataFrame:
    """Return one row per number that is reported: its mean error, how often its interval holds the truth.

    ``mean bias`` is held against the bias that this model is expected to show at this n, noise included;
    every ``gap`` against that of the model. ``read by a judge``: the judge's errors are in the counts and not
    known; ``corrected``: known from a confusion matrix, itself counted on labelled images every time.
    ``signed`` shares the interval of the number before it.
    """
    rng = setting.generator(seed, "estimates")
    classes, n, population = setting.classes, setting.images, setting.population
    p, rates = population.draw(rng, (evaluations, PROMPTS), classes), judge_rates(classes)
    counts, read = rng.multinomial(n, p), rng.multinomial(n, p @ rates)
    tables = rng.multinomial(LABELLED, rates, (evaluations, classes))
    everywhere = population.draw(rng, (EVERY_PROMPT,), classes)
    expected, gap = float(bias(rng.multinomial(n, everywhere) / n).mean()), population.gap(classes)
    biases = bias(counts / n)
    plain = [gap_estimate(seen) for seen in counts]
    ignored = [gap_estimate(seen) for seen in read]
    corrected = [gap_estimate(seen, None, table) for seen, table in zip(read, tables, strict=True)]
    bootstrapped = [mean_interval(values, resamples=RESAMPLES) for values in biases]
    rows = [
        _row("mean bias, bootstrap", expected, biases.mean(axis=1), bootstrapped),
        _row("mean bias, t", expected, biases.mean(axis=1), [t_interval(values) for values in biases]),
    ]
    for name, given in (("gap", plain), ("gap read by a judge", ignored), ("gap corrected", corrected)):
        found = [one for one in given if one]
        rows.append(_row(name, gap, [one["gap"] for one in found], [one["interval"] for one in found]))
        rows.append(_row(f"{name}, signed", gap, [one["signed"] for one in found]))
    return pd.DataFrame([setting.columns | {"evaluations": evaluations} | row for row in rows])


def _row(name: str, truth: float, found: Any, intervals: Any = None) -> dict[str, Any]:
    """Return mean error and, with intervals, coverage, misses on either side, width, how often 0 is out."""
    row: dict[str, Any] = {
        "number": name,
        "truth": truth,
        "mean": np.mean(found),
        "error": np.mean(found) - truth,
    }
    if intervals is None:
        return row
    low, high = np.array(intervals).T
    return row | {
        "coverage": np.mean((low <= truth + 1e-12) & (truth - 1e-12 <= high)),
        "too high": np.mean(low > truth + 1e-12),
        "too low": np.mean(high < truth - 1e-12),
        "width": np.mean(high - low),
        "above 0": np.mean(low > 0),
    }


def rejections(setting: Setting, evaluations: int, seed: int) -> pd.DataFrame:
    """Return how often each test rejects at level .05, where there is nothing to find and where there is.

    ``changed``, the paired permutation test of ``compare``: the same model twice, and one that lost a fifth
    of its lean. ``unchanged``, the equivalence test between these two: with a margin that is just the true
    change there is nothing to find, with three times that there is. ``not fair``: the test against the floor.
    """
    rng = setting.generator(seed, "tests")
    classes, n, population = setting.classes, setting.images, setting.population
    p = population.draw(rng, (evaluations, PROMPTS), classes)
    everywhere = population.draw(rng, (EVERY_PROMPT,), classes)
    before, again = (bias(rng.multinomial(n, p) / n) for _ in range(2))
    after = bias(rng.multinomial(n, _less(p)) / n)
    change = float(
        (bias(rng.multinomial(n, _less(everywhere)) / n) - bias(rng.multinomial(n, everywhere) / n)).mean()
    )
    fair = population.gap(classes) == 0
    rows = [_rate("changed", 0, sign_flip_test(again - before, resamples=RESAMPLES, seed=seed))]
    if not fair:
        rows += [
            _rate("changed", change, sign_flip_test(after - before, resamples=RESAMPLES, seed=seed)),
            _rate("unchanged, margin = change", 0, _equivalences(after - before, abs(change))),
            _rate("unchanged, margin = 3 x change", change, _equivalences(after - before, 3 * abs(change))),
        ]
    counts = rng.multinomial(n, p)
    not_fair = np.array([floor_test(seen, resamples=RESAMPLES, seed=seed) for seen in counts])
    rows.append(_rate("not fair", population.gap(classes), not_fair))
    return pd.DataFrame([setting.columns | {"evaluations": evaluations} | row for row in rows])


def _less(p: np.ndarray) -> np.ndarray:
    return 0.8 * p + 0.2 / p.shape[-1]


def _rate(name: str, effect: float, p_values: np.ndarray) -> dict[str, Any]:
    """Return how often the test rejects; without an effect that is its type-I rate, with one its power."""
    return {"test": name, "effect": effect, "rejected": np.mean(p_values <= LEVEL)}


def _equivalences(differences: np.ndarray, margin: float) -> np.ndarray:
    found = (equivalence_test(row, margin) for row in differences)
    return np.array([1.0 if one is None else one["p_value"] for one in found])
