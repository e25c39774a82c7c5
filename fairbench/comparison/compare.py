"""Several runs side by side: what differs by more than noise, and what may not be set side by side at all.

Every number comes from the stored records, prompt by prompt.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from fairbench.attributes import AttributeSpace
from fairbench.comparison.equivalence import MARGINS, quality_changes
from fairbench.comparison.panel import gaming, judge_panel
from fairbench.comparison.shared import Shared, find_shared, tables, target_of
from fairbench.comparison.variants import Variant, variants_of
from fairbench.errors import UserError, unknown
from fairbench.metrics.counts import mean_known, paired_biases, prompt_biases, unpaired_biases
from fairbench.metrics.floor import noise_floor
from fairbench.metrics.gap import gap_estimate
from fairbench.metrics.intervals import mean_interval
from fairbench.metrics.ranks import rank_intervals
from fairbench.metrics.significance import LEVEL, RESAMPLES, floor_test, holm, sign_flip_test, welch_test
from fairbench.records import PRODUCT
from fairbench.store.load import StoredRun
from fairbench.store.results import Comparison

SCHEMA_VERSION = 1
PATTERNS_PER_TEST = 100
"""Of the swaps drawn where there are too many for all: the smallest p-value is then adjusted to 0.01."""


def compare(
    runs: Sequence[StoredRun],
    *,
    attributes: str | None = None,
    unpaired: bool = False,
    margins: Mapping[str, float] | None = None,
) -> Comparison:
    """Compare the methods of ``runs`` and their original models.

    Parameters
    ----------
    runs
        One with two variants, or several.
    attributes
        Such as ``"gender,gender x race"``; what all the runs set out to balance if None.
    unpaired
        Compare runs of different suites all the same, by unpaired tests.
    margins
        Measure -> what counts as unchanged, in place of `MARGINS`.

    Returns
    -------
    ``differences``: lines that say what the runs do not have in common. ``runs``: label, name and facts, with
    what each took (`fairbench.store.provenance.cost`) and its KID where there is a reference. ``attributes``:
    per attribute and run the bias with its interval, floor and rank, whether a fair model could
    have shown it, whom it ``beats``, and its gaming gap; ``tests``: every pair, adjusted by Holm over all
    pairs and attributes. ``quality``: per run and measure the change against the first run that has it,
    and whether that is "unchanged" within the margin. ``panel``: how far the judges agree, and the order of
    the runs when one of them is left out.

    Raises
    ------
    UserError
        There is nothing to compare, no prompt to pair by, or a run would be judged by the judge it learnt
        from.
    """
    for name in margins or {}:
        if name not in MARGINS:
            raise unknown("measure", name, MARGINS)
    variants = variants_of(runs)
    shared = find_shared(variants, unpaired=unpaired)
    names = _attributes(attributes, variants)
    counts = {name: tables(shared, name) for name in names}
    tests = _tests(shared, counts)
    found: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "judge": shared.panel[0] if shared.panel else None,
        "level": LEVEL,
        "paired": shared.prompts is not None,
        "prompts": None if shared.prompts is None else len(shared.prompts),
        "differences": list(shared.notes),
        "runs": [
            {
                "label": each.label,
                "name": each.name,
                "path": str(each.run.path),
                "draw_class": each.draw_class,
                "model": each.run.metrics.model,
                "suite": each.suite[0],
                "seed": each.run.config.get("seed"),
                "images_per_prompt": each.images_per_prompt,
                "judge": judge,
                **asdict(each.cost),
                "kid": each.kid,
            }
            for each, judge in zip(variants, shared.judges, strict=True)
        ],
        "attributes": _bias(shared, counts, tests),
        "tests": tests,
        "quality": quality_changes(shared, MARGINS | dict(margins or {})),
        "panel": judge_panel(shared, names),
    }
    return Comparison(**found)


def _attributes(asked: str | None, variants: Sequence[Variant]) -> list[str]:
    if asked is not None:
        return [PRODUCT.join(AttributeSpace.parse(part.split(PRODUCT)).names) for part in asked.split(",")]
    lists = [each.run.metrics.attributes for each in variants]
    shared = [name for name in lists[0] if all(name in names for names in lists)]
    if not shared:
        raise UserError("the runs set out to balance different attributes: name some with --attributes")
    return [*shared, *([PRODUCT.join(shared)] if len(shared) > 1 else [])]


def _tests(shared: Shared, found: Mapping[str, Sequence[np.ndarray]]) -> list[dict[str, Any]]:
    """Test every pair of variants on every attribute, as one family."""
    tests = []
    family = len(found) * math.comb(len(shared.variants), 2)
    for attribute, counts in found.items():
        target = target_of(shared.targets, attribute)
        pairs = list(itertools.combinations(range(len(shared.variants)), 2))
        if shared.prompts is not None:
            sides = [paired_biases(counts[one], counts[other], target) for one, other in pairs]
            changes = np.array([other - one for one, other in sides])
            p_values = sign_flip_test(changes, resamples=max(RESAMPLES, PATTERNS_PER_TEST * family)).tolist()
            means = [mean_known(change) for change in changes]
        else:
            sides = [unpaired_biases(counts[one], counts[other], target) for one, other in pairs]
            p_values = [welch_test(one, other) for one, other in sides]
            means = [_difference(one, other) for one, other in sides]
        tests += [
            {
                "attribute": attribute,
                "first": shared.variants[one].label,
                "second": shared.variants[other].label,
                "difference": mean,
                "p_value": p_value,
            }
            for (one, other), mean, p_value in zip(pairs, means, p_values, strict=True)
        ]
    for test, adjusted in zip(tests, holm([test["p_value"] for test in tests]), strict=True):
        test["p_holm"] = float(adjusted)
        test["significant"] = bool(adjusted <= LEVEL)
    return tests


def _difference(one: np.ndarray, other: np.ndarray) -> float | None:
    means = mean_known(one), mean_known(other)
    return None if means[0] is None or means[1] is None else means[1] - means[0]


def _bias(
    shared: Shared, found: Mapping[str, Sequence[np.ndarray]], tests: Sequence[Mapping[str, Any]]
) -> dict[str, list[dict[str, Any]]]:
    rows: dict[str, list[dict[str, Any]]] = {}
    for attribute, counts in found.items():
        target = target_of(shared.targets, attribute)
        values = [prompt_biases(table, target) for table in counts]
        ranks = rank_intervals(_padded(values), paired=shared.prompts is not None)
        rows[attribute] = [
            {
                "label": each.label,
                "bias_mean": mean_known(value),
                "bias_sd": _spread(value),
                "interval": mean_interval(value),
                "floor": noise_floor(table.sum(axis=1), table.shape[1], target),
                "floor_p": floor_test(table, target) if _independent(each) else None,
                "debiased": gap["gap"] if (gap := gap_estimate(table, target)) else None,
                "usable": int(table.sum()),
                "prompts": int((~np.isnan(value)).sum()),
                "rank": rank["rank"],
                "rank_interval": list(rank["interval"]),
                "beats": _beaten(each.label, attribute, tests),
                "gaming_gap": gaming(shared, each, attribute),
            }
            for each, table, value, rank in zip(shared.variants, counts, values, ranks, strict=True)
        ]
    _mark_fair(list(itertools.chain(*rows.values())))
    return rows


def _spread(value: np.ndarray) -> float | None:
    known = value[~np.isnan(value)]
    return float(known.std(ddof=1)) if len(known) > 1 else None


def _independent(variant: Variant) -> bool:
    """Whether the classes of its images are independent, as the noise floor has it."""
    return variant.draw_class in ("emergent", "drawn") and variant.run.config.get("draw") != "quota"


def _mark_fair(rows: Sequence[dict[str, Any]]) -> None:
    """Say of every row whether a fair model could have shown it: all of them are one family of tests."""
    tested = [row for row in rows if row["floor_p"] is not None]
    for row in rows:
        row["fair"] = None
    for row, adjusted in zip(tested, holm([row["floor_p"] for row in tested]), strict=True):
        row["fair"] = bool(adjusted > LEVEL)


def _beaten(label: str, attribute: str, tests: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the labels of those that are significantly more biased."""
    beaten = []
    for test in tests:
        if test["attribute"] == attribute and test["significant"]:
            better, worse = test["first"], test["second"]
            if test["difference"] < 0:
                better, worse = worse, better
            beaten += [worse] if better == label else []
    return sorted(beaten)


def _padded(values: Sequence[np.ndarray]) -> np.ndarray:
    """Return R x P with nan where a run has fewer prompts than another."""
    width = max(map(len, values))
    return np.array([np.pad(value, (0, width - len(value)), constant_values=np.nan) for value in values])
