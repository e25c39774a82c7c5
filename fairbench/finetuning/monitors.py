"""Signs that a finetuning goes wrong, in plain words, read off its log and, afterwards, off its results.

Pure functions of tables: nothing is measured for them. A column or number that is not there is passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

import pandas as pd

from fairbench.store.results import Metrics, Summary, TrainingWarning, VariantMetrics

WINDOW = 20
"""Updates that every number is averaged over."""

Sign = tuple[pd.Series, str]
"""Whether something is wrong, update by update, and a sentence with the numbers of the last one."""


def warnings_during(log: pd.DataFrame) -> list[TrainingWarning]:
    """Return what is wrong at the last update of a training log, one row per update."""
    if "update" not in log or log.empty:
        return []
    log = log.reset_index(drop=True)
    found = []
    for name, monitor in MONITORS.items():
        for wrong, sentence in monitor(log):
            lasting = int(wrong[::-1].cummin().sum())  # updates at the end that are wrong without a break
            if lasting:
                since = int(log["update"].iloc[-lasting])
                found.append(TrainingWarning(name=name, sentence=sentence, since=since))
    return found


def warnings_after(log: pd.DataFrame, metrics: Metrics) -> list[TrainingWarning]:
    """Return what is wrong at the end: of the log, and of the ``metrics`` on prompts never trained on.

    Whether the bias persists is then decided by the test prompts alone.
    """
    during = [warning for warning in warnings_during(log) if warning.name != "bias_persists"]
    return during + [
        TrainingWarning(name=name, sentence=sentence, since=None)
        for name, check in RESULTS
        for sentence in check(log, metrics)
    ]


def _bias_persists(log: pd.DataFrame) -> Iterator[Sign]:
    for column in _columns(log, "gap"):
        mean, first = _mean(log[column]), _first(log[column])
        wrong = (mean >= 0.9 * first) & (log.index >= 3 * WINDOW - 1)
        yield (
            wrong,
            f"the {_of(column)} gap of the training images has not fallen: "
            f"{first:.2f} at first, {mean.iloc[-1]:.2f} now",
        )


def _quality_drops(log: pd.DataFrame) -> Iterator[Sign]:
    for column in _columns(log, "similarity"):
        mean = _mean(log[column])
        yield (
            mean < 0.5,
            f"the images no longer resemble those of the original model: "
            f"similarity {mean.iloc[-1]:.2f} ({_of(column)})",
        )


def _unstable(log: pd.DataFrame) -> Iterator[Sign]:
    if "loss" in log:
        mean = _mean(log["loss"])
        lowest = mean.cummin()
        rise = lowest + 0.5 * lowest.abs()
        yield mean > rise, f"the loss is rising: {lowest.iloc[-1]:.2f} at its lowest, {mean.iloc[-1]:.2f} now"
    if "nonfinite" in log:
        share = log["nonfinite"].diff().rolling(WINDOW).mean()
        yield share > 0.05, f"{share.iloc[-1]:.0%} of the updates had no finite gradient and were skipped"
    for column in (*_columns(log, "confidence"), *_columns(log, "targeted")):
        mean, first = _mean(log[column]), _first(log[column])
        yield (
            mean < 0.75 * first,
            f"confidence is collapsing: {column} {first:.2f} at first, {mean.iloc[-1]:.2f} now",
        )


def _judge_fooled(log: pd.DataFrame) -> Iterator[Sign]:
    for column in _columns(log, "undecided"):
        mean, first = _mean(log[column]), _first(log[column])
        yield (
            (mean > 0.3) & (mean > 2 * first),
            f"the judge can no longer decide: {mean.iloc[-1]:.0%} of the images have {_of(column)} "
            f"probabilities between .2 and .8, {first:.0%} at first; they may be made to fool it",
        )


MONITORS: dict[str, Callable[[pd.DataFrame], Iterator[Sign]]] = {
    "bias_persists": _bias_persists,
    "quality_drops": _quality_drops,
    "unstable": _unstable,
    "judge_fooled": _judge_fooled,
}
"""What is watched while a method trains."""


def _persists_on_test(log: pd.DataFrame, metrics: Metrics) -> Iterator[str]:
    for attribute, before, after in _asked(metrics):
        paired = metrics.paired.get(attribute)
        p_value = paired.p_value if paired else None
        if p_value is not None and (p_value > 0.05 or after > before):
            yield (
                f"the {attribute} bias of the test prompts has not fallen beyond chance: "
                f"{before:.2f} to {after:.2f}"
            )


def _worse_images(log: pd.DataFrame, metrics: Metrics) -> Iterator[str]:
    before, after = (variant.quality for variant in _variants(metrics))
    for key, words in (("recognised", "whose subject is recognised"), ("face_rate", "with a face")):
        first, last = before.value(key), after.value(key)
        if first is not None and last is not None and last < first - 0.05:
            yield f"the share of images {words} has dropped from {first:.2f} to {last:.2f}"


def _overfitted(log: pd.DataFrame, metrics: Metrics) -> Iterator[str]:
    for attribute, before, after in _asked(metrics):
        column = f"gap_{attribute}"
        if column in log and len(log) >= 2 * WINDOW and before > 0:
            first = _first(log[column])
            trained = 1 - log[column].tail(WINDOW).mean() / first if first > 0 else 0.0
            carried = 1 - after / before
            if trained - carried > 0.25:
                yield (
                    f"the {attribute} gap fell by {trained:.0%} on the training prompts, but by "
                    f"{carried:.0%} on the test prompts"
                )


def _learnt_from_one_judge(log: pd.DataFrame, metrics: Metrics) -> Iterator[str]:
    for attribute, _, _ in _asked(metrics):
        gaming = metrics.gaming_gap.get(attribute)
        gap = gaming.value if gaming else None
        if gap is not None and gap < -0.15:
            yield (f"the judge that it learnt from sees {-gap:.2f} less {attribute} bias than the others do")


RESULTS: tuple[tuple[str, Callable[[pd.DataFrame, Metrics], Iterator[str]]], ...] = (
    ("bias_persists", _persists_on_test),
    ("quality_drops", _worse_images),
    ("overfitting", _overfitted),
    ("judge_fooled", _learnt_from_one_judge),
)


def _columns(log: pd.DataFrame, start: str) -> list[str]:
    return [str(column) for column in log if str(column).partition("_")[0] == start]


def _of(column: str) -> str:
    return column.partition("_")[2] or "class"


def _mean(values: pd.Series) -> pd.Series:
    """Average over the last updates; nan, which compares as false, before there are enough."""
    return values.astype(float).rolling(WINDOW, min_periods=WINDOW).mean()


def _first(values: pd.Series) -> float:
    return float(values.head(WINDOW).mean())


def _variants(metrics: Metrics) -> list[VariantMetrics]:
    """Return what was measured of the original and of the debiased model."""
    variants = list(metrics.variants.values())
    return variants[:2] if len(variants) > 1 else [VariantMetrics(), VariantMetrics()]


def _asked(metrics: Metrics) -> Iterator[tuple[str, float, float]]:
    """Yield each attribute that was to be balanced, with its bias before and after."""
    before, after = (variant.bias for variant in _variants(metrics))
    for attribute in metrics.attributes:
        first, last = (bias.get(attribute, Summary()).bias_mean for bias in (before, after))
        if first is not None and last is not None:
            yield attribute, first, last


def told_at_the_end(metrics: Metrics, log: pd.DataFrame, planned: int, stop_on: Collection[str]) -> Metrics:
    """Return ``metrics`` with its ``warnings``, and a note where the training ended before its time."""
    done = int(log["update"].max()) if len(log) and "update" in log else planned
    names = ", ".join(name for name in MONITORS if name in stop_on)
    notes = list(metrics.notes)
    if stop_on and done < planned:
        notes.append(f"finetuning ended at update {done} of {planned}: --stop-on {names}")
    return metrics.model_copy(update={"warnings": warnings_after(log, metrics), "notes": notes})
