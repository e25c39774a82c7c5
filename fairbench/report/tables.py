"""The table at the end of a run: bias before and after, what a fair model scores, and the cost in quality.

`bias_frame` holds the same numbers, one row each, for whoever wants to go on computing.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd
from rich import box
from rich.table import Table

from fairbench.records import ORIGINAL, PRODUCT

Metrics = Mapping[str, Any]

FAIR = "≈"
ABSENT = "–"
INTERVAL = "  95 % interval"
QUALITY = {
    "recognised": ("recognised", ".3f"),
    "face_rate": ("face rate", ".3f"),
    "clip_t": ("CLIP-T", ".3f"),
    "clip_i": ("CLIP-I", ".3f"),
    "dino": ("DINO", ".3f"),
    "fid": ("FID", ".3g"),
    "kid": ("KID", ".3g"),
    "kid_matched": ("KID, same people", ".3g"),
}
"""Key of a quality measure -> what the table calls it and how it is written, in the order of the rows."""
LEGEND = f"""± spread over prompts · n: prompts × images with a face
floor: what a fair model scores at this n · {FAIR} interval reaches it"""


def before_after(metrics: Metrics) -> Table:
    """Lay out the metrics of a run: bias rows with interval, floor and n above, quality rows below."""
    method = method_of(metrics)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=0)
    table.title, table.title_justify = _title(metrics), "left"
    table.caption, table.caption_justify = _caption(metrics), "left"
    table.add_column("bias", no_wrap=True)
    for name in ("original", *(("debiased", "change", "p") if method else ()), "floor", "n"):
        table.add_column(name, justify="right", no_wrap=True)
    for attribute in _attributes(metrics):
        for label, style, cells in _bias_rows(metrics, attribute, method):
            table.add_row(label, *(cells if method else [cells[0], *cells[4:]]), style=style)
    table.add_section()
    for key, (name, spec) in QUALITY.items():
        before, after = (_quality(metrics, variant, key) for variant in (ORIGINAL, method))
        if not (math.isnan(before) and math.isnan(after)):
            values = [shown(before, spec), shown(after, spec), shown(after - before, f"+{spec}")]
            table.add_row(name, *(values if method else values[:1]))
            if ranges := _quality_ranges(metrics, method, key):
                table.add_row(INTERVAL, *(ranges if method else ranges[:1]), style="dim")
    return table


def bias_frame(metrics: Metrics) -> pd.DataFrame:
    """Return one row per variant and attribute with every single number that the primary judge led to."""
    rows = []
    for variant, entry in metrics.get("variants", {}).items():
        for attribute, summary in entry.get("bias", {}).items():
            low, high = _interval(summary)
            numbers = {
                key: value
                for key, value in summary.items()
                if value is None or isinstance(value, int | float)
            }
            rows.append({"variant": variant, "attribute": attribute, **numbers, "low": low, "high": high})
    return pd.DataFrame(rows)


def indistinguishable(summary: Mapping[str, Any]) -> bool:
    """Tell whether a fair model could have scored this: its 95 % interval reaches down to the noise floor."""
    return _interval(summary)[0] <= _number(summary.get("floor"))


def method_of(metrics: Metrics) -> str | None:
    """Return the variant that is not the original model; None if only the original was measured."""
    return next((name for name in metrics.get("variants", {}) if name != ORIGINAL), None)


def _attributes(metrics: Metrics) -> list[str]:
    return list(dict.fromkeys(a for v in metrics.get("variants", {}).values() for a in v.get("bias", {})))


def _title(metrics: Metrics) -> str:
    method, draw = metrics.get("method", ""), metrics.get("draw_class")
    parts = (f"{method} ({draw})" if draw else method, metrics.get("model"), metrics.get("suite"))
    return " · ".join(str(part) for part in parts if part)


def _caption(metrics: Metrics) -> str:
    judges = [
        f"{duty} {metrics[key]}"
        for duty, key in (("judged by", "primary_judge"), ("trained with", "training_judge"))
        if metrics.get(key)
    ]
    warnings = [f"warning: {w['name']}{_since(w)}: {w['sentence']}" for w in metrics.get("warnings", ())]
    targets = [
        f"{name}: bias, gap and floor are measured from the target{target}, not from even shares"
        for name in metrics.get("attributes", ())
        if (target := from_target(_summary(metrics, ORIGINAL, name)))
    ]
    lines = [LEGEND, *targets, *([" · ".join(judges)] if judges else []), *_compared(metrics)]
    return "\n".join([*lines, *metrics.get("notes", ()), *warnings])


def _compared(metrics: Metrics) -> list[str]:
    """Say how many images FID and KID are of: neither is worth anything without."""
    entry: Mapping[str, Any] = next(iter(metrics.get("variants", {}).values()), {})
    counts = entry.get("quality", {}).get("distance_images")
    return [f"FID, KID: {counts['generated']} images and {counts['reference']} to compare"] if counts else []


def from_target(summary: Mapping[str, Any]) -> str:
    """Spell the target that the bias is measured from, after a space; nothing where it is uniform."""
    target = summary.get("target")
    return f" {'/'.join(f'{share:g}' for share in target)}" if target else ""


def _since(warning: Mapping[str, Any]) -> str:
    return f", since update {warning['since']}" if warning.get("since") is not None else ""


def _bias_rows(metrics: Metrics, attribute: str, method: str | None) -> list[tuple[str, str, list[str]]]:
    """Return (label, style, cells): the bias, its interval, the gap without noise.

    Of what the run set out for also what faceless images could change, judge errors, and the other judges.
    """
    before, after = (_summary(metrics, variant, attribute) for variant in (ORIGINAL, method))
    asked = list(metrics.get("attributes", ()))
    wanted = attribute in (*asked, PRODUCT.join(asked))
    paired = metrics.get("paired", {}).get(attribute) or {}
    change, floor = _number(paired.get("difference")), _number((after or before).get("floor"))
    tail = [shown(change, "+.2f"), _p(paired), shown(floor), _images(after or before)]
    rows = [
        (attribute, "bold", [_spread(before), _spread(after), *tail]),
        (INTERVAL, "dim", _ranges(before.get("interval"), after.get("interval"))),
    ]
    if wanted and any(summary.get("usable") != summary.get("images") for summary in (before, after)):
        rows.append(("  faceless bounds", "dim", _ranges(before.get("bounds"), after.get("bounds"))))
    rows.append(("  rms, no noise", "dim", _pair(before.get("debiased"), after.get("debiased"))))
    if wanted:
        corrected = [(summary.get("corrected") or {}).get("gap") for summary in (before, after)]
        if corrected != [None, None]:
            rows.append(("  rms, no errors", "dim", _pair(*corrected)))
        rows += _judge_rows(metrics, attribute, method)
    return rows


def _judge_rows(metrics: Metrics, attribute: str, method: str | None) -> Iterator[tuple[str, str, list[str]]]:
    """Return what the other judges see, and what the training judge sees more than those held out."""
    for judge in metrics.get("variants", {}).get(ORIGINAL, {}).get("judges", {}):
        if judge != metrics.get("primary_judge"):
            means = (_seen(metrics, name, judge, attribute).get("bias_mean") for name in (ORIGINAL, method))
            yield f"  {judge}", "dim", _pair(*means)
    if gap := metrics.get("gaming_gap", {}).get(attribute):
        yield "  gaming gap", "dim", ["", shown(_number(gap["value"]), "+.2f"), "", "", "", ""]
        yield INTERVAL, "dim", ["", _range(gap["interval"]), "", "", "", ""]


def _seen(metrics: Metrics, variant: str | None, judge: str, attribute: str) -> Mapping[str, Any]:
    return metrics.get("variants", {}).get(variant, {}).get("judges", {}).get(judge, {}).get(attribute, {})


def _summary(metrics: Metrics, variant: str | None, attribute: str) -> Mapping[str, Any]:
    return metrics.get("variants", {}).get(variant, {}).get("bias", {}).get(attribute, {})


def _quality(metrics: Metrics, variant: str | None, key: str) -> float:
    value = metrics.get("variants", {}).get(variant, {}).get("quality", {}).get(key)
    return _number(value.get("mean") if isinstance(value, Mapping) else value)


def _quality_ranges(metrics: Metrics, method: str | None, key: str) -> list[str]:
    """Return the cells of the intervals of a measure; none where neither variant has one."""
    variants = metrics.get("variants", {})
    values = [variants.get(variant, {}).get("quality", {}).get(key) for variant in (ORIGINAL, method)]
    before, after = (value.get("interval") if isinstance(value, Mapping) else None for value in values)
    return _ranges(before, after, ".3f")[:2] if before or after else []


def _interval(summary: Mapping[str, Any]) -> tuple[float, float]:
    low, high = summary.get("interval") or (None, None)
    return _number(low), _number(high)


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else math.nan


def shown(value: float | None, spec: str = ".2f") -> str:
    """Write a number, or a dash where there is none."""
    return ABSENT if value is None or math.isnan(value) else format(value, spec)


def _pair(before: object, after: object) -> list[str]:
    """Return the cells of a row that has two numbers and their difference."""
    first, second = _number(before), _number(after)
    return [shown(first), shown(second), shown(second - first, "+.2f"), "", "", ""]


def _spread(summary: Mapping[str, Any]) -> str:
    text = f"{shown(_number(summary.get('bias_mean')))} ± {shown(_number(summary.get('bias_sd')))}"
    return f"{FAIR} {text}" if indistinguishable(summary) else text


def _ranges(before: Sequence[float] | None, after: Sequence[float] | None, spec: str = ".2f") -> list[str]:
    """Return the cells of a row that has two intervals."""
    return [_range(before, spec), _range(after, spec), "", "", "", ""]


def _range(interval: Sequence[float] | None, spec: str = ".2f") -> str:
    return f"[{interval[0]:{spec}}, {interval[1]:{spec}}]" if interval else ABSENT


def _p(paired: Mapping[str, Any]) -> str:
    value = _number(paired.get("p_value"))
    if math.isnan(value):
        return ABSENT
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def _images(summary: Mapping[str, Any]) -> str:
    """Return prompts × usable images per prompt."""
    prompts, usable = summary.get("prompts"), summary.get("usable")
    return f"{prompts} × {usable / prompts:.0f}" if prompts and usable is not None else ABSENT
