"""What several judges say of the same images: how far they agree, and whom a method pleases.

A method is trained against one judge; what the others see is what counts.
"""

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from fairbench.metrics.counts import Target, count_table, judged_labels, mean_known, prompt_biases
from fairbench.metrics.intervals import mean_interval


class Estimate(TypedDict):
    """A number with its interval; None where it cannot be given."""

    value: float | None
    interval: list[float] | None


def coincidences(labels: ArrayLike, classes: int) -> np.ndarray:
    """Return the U x K x K coincidence matrices of U units: ``(n_c n_k - [c = k] n_c) / (m - 1)``.

    Parameters
    ----------
    labels
        J x U class numbers, one row per judge, -1 where a judge has none. n_c judges of the m that have one
        say c; a unit that fewer than two have judged gives zeros.
    classes
        K.

    Examples
    --------
    Two judges of one image, who disagree:

    >>> coincidences([[0], [1]], 2).tolist()
    [[[0.0, 1.0], [1.0, 0.0]]]
    """
    table = np.asarray(labels, dtype=int)
    said = (table[..., None] == np.arange(classes)).sum(axis=0).astype(float)
    others = np.maximum(said.sum(axis=-1) - 1, 1)[:, None, None]
    pairs = said[:, :, None] * said[:, None, :] - said[:, :, None] * np.eye(classes)
    return pairs / others


def alpha(coincidence: ArrayLike) -> np.ndarray:
    """Krippendorff's alpha for names: ``1 - (n - 1) (n - sum_c o_cc) / (n^2 - sum_c n_c^2)``.

    Parameters
    ----------
    coincidence
        ... x K x K sums of `coincidences` over units; n_c are its row sums, n all of it.

    Returns
    -------
    ... values: 1 where judges always agree, 0 where as by chance; nan where only one class was ever seen.

    References
    ----------
    Krippendorff, "Computing Krippendorff's Alpha-Reliability", University of Pennsylvania 2011.

    Examples
    --------
    Judges who always agree, and some who do not: ``1 - 5 * 2 / (36 - 18)``.

    >>> alpha([[[2, 0], [0, 2]], [[2, 1], [1, 2]]]).round(3).tolist()
    [1.0, 0.444]
    """
    table = np.asarray(coincidence, dtype=float)
    marginal = table.sum(axis=-1)
    total = marginal.sum(axis=-1)
    differing = total - np.trace(table, axis1=-2, axis2=-1)
    expected = total**2 - (marginal**2).sum(axis=-1)
    return 1 - (total - 1) * differing / np.where(expected > 0, expected, np.nan)


def agreement(
    records: pd.DataFrame, judges: Sequence[str], attribute: str, *, resamples: int = 2000, seed: int = 0
) -> Estimate:
    """Return alpha over all images, with the 95 % percentile interval of a bootstrap over prompts.

    Examples
    --------
    Two judges who say the same of two images:

    >>> says = {"face": [1, 1], "gender/female": [0.9, 0.2], "gender/male": [0.1, 0.8]}
    >>> records = pd.DataFrame({f"{judge}/{name}": says[name] for judge in "ab" for name in says})
    >>> agreement(records.assign(prompt_id="nurse"), ["a", "b"], "gender")
    {'value': 1.0, 'interval': None}
    """
    judged = [judged_labels(records, judge, attribute) for judge in judges]
    units = coincidences([labels for labels, _ in judged], len(judged[0][1]))
    rows, prompts = pd.factorize(records["prompt_id"])
    by_prompt = np.zeros((len(prompts), *units.shape[1:]))
    np.add.at(by_prompt, rows, units)
    count = len(prompts)
    weights = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=resamples)
    value = float(alpha(by_prompt.sum(axis=0)))
    if np.isnan(value):
        return {"value": None, "interval": None}
    spread = alpha(np.tensordot(weights, by_prompt, axes=1))
    low, high = np.nanquantile(spread, [0.025, 0.975])
    return {"value": value, "interval": [float(low), float(high)] if count > 1 else None}


def gaming_gap(
    records: pd.DataFrame, training_judge: str, judges: Sequence[str], attribute: str, target: Target = None
) -> Estimate:
    """Bias that the training judge sees minus that of the held-out ones (their mean), over prompts.

    Below zero, the method pleases the judge it learnt from more than the others. The interval is BCa over
    prompts, 95 %.

    Parameters
    ----------
    records
        The rows of one variant.
    training_judge, judges
        Their names in the records.
    attribute
        As in `fairbench.metrics.counts.judged_labels`.
    target
        K probabilities that bias is measured from; None for uniform.

    Examples
    --------
    Of two images, a sees one of each class (bias 0), and b two of the same (bias 1):

    >>> records = pd.DataFrame({"prompt_id": "nurse", "a/face": [1, 1], "b/face": [1, 1]})
    >>> records[["a/gender/female", "a/gender/male"]] = [[1, 0], [0, 1]]
    >>> records[["b/gender/female", "b/gender/male"]] = [[1, 0], [1, 0]]
    >>> gaming_gap(records, "a", ["b"], "gender")
    {'value': -1.0, 'interval': None}
    """
    held_out = [prompt_biases(count_table(records, judge, attribute), target) for judge in judges]
    learnt = prompt_biases(count_table(records, training_judge, attribute), target)
    gaps = learnt - np.mean(held_out, axis=0)
    interval = mean_interval(gaps)
    return {"value": mean_known(gaps), "interval": list(interval) if interval else None}
