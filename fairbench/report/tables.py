"""The table at the end of a run: bias before and after, what a fair model scores, and the cost in quality.

`bias_frame` holds the same numbers, one row each, for whoever wants to go on computing.
"""

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd
from rich import box
from rich.table import Table

from fairbench.runs.registry import ORIGINAL

Metrics = Mapping[str, Any]

FAIR = "≈"
ABSENT = "–"
QUALITY = {
    "recognised": ("recognised", ".3f"),
    "face_rate": ("face rate", ".3f"),
    "clip_t": ("CLIP-T", ".3f"),
    "clip_i": ("CLIP-I", ".3f"),
    "dino": ("DINO", ".3f"),
    "fid": ("FID", ".3g"),
    "kid": ("KID", ".3g"),
}
"""Key of a quality measure -> what the table calls it and how it is written, in the order of the rows."""
LEGEND = f"""± spread over prompts · n: prompts × images with a face
floor: what a fair model scores at this n · {FAIR} interval reaches it"""


def before_after(metrics: Metrics) -> Table:
    """Lay out the metrics of a run: bias rows with interval, floor and n above, quality rows below."""
    method = method_of(metrics)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
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
            values = [_text(before, spec), _text(after, spec), _text(after - before, f"+{spec}")]
            table.add_row(name, *(values if method else values[:1]))
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
    return "\n".join(
        [LEGEND, *targets, *([" · ".join(judges)] if judges else []), *metrics.get("notes", ()), *warnings]
    )


def from_target(summary: Mapping[str, Any]) -> str:
    """Spell the target that the bias is measured from, after a space; nothing where it is uniform."""
    target = summary.get("target")
    return f" {'/'.join(f'{share:g}' for share in target)}" if target else ""


def _since(warning: Mapping[str, Any]) -> str:
    return f", since update {warning['since']}" if warning.get("since") is not None else ""


def _bias_rows(metrics: Metrics, attribute: str, method: str | None) -> list[tuple[str, str, list[str]]]:
    """Return (label, style, cells): the bias, its interval, the gap without noise, and the other judges."""
    before, after = (_summary(metrics, variant, attribute) for variant in (ORIGINAL, method))
    paired = metrics.get("paired", {}).get(attribute) or {}
    change, floor = _number(paired.get("difference")), _number((after or before).get("floor"))
    tail = [_text(change, "+.2f"), _p(paired), _text(floor), _images(after or before)]
    rows = [
        (attribute, "bold", [_spread(before), _spread(after), *tail]),
        ("  95 % interval", "dim", [_range(before), _range(after), "", "", "", ""]),
        ("  rms, no noise", "dim", _pair(before.get("debiased"), after.get("debiased"))),
    ]
    for judge in _other_judges(metrics, attribute):
        means = (_seen(metrics, variant, judge, attribute).get("bias_mean") for variant in (ORIGINAL, method))
        rows.append((f"  {judge}", "dim", _pair(*means)))
    return rows


def _other_judges(metrics: Metrics, attribute: str) -> list[str]:
    """Return who else judged, where it matters: for what the run set out to balance."""
    asked = list(metrics.get("attributes", ()))
    judges = metrics.get("variants", {}).get(ORIGINAL, {}).get("judges", {})
    wanted = attribute in (*asked, " x ".join(asked))
    return [name for name in judges if wanted and name != metrics.get("primary_judge")]


def _seen(metrics: Metrics, variant: str | None, judge: str, attribute: str) -> Mapping[str, Any]:
    return metrics.get("variants", {}).get(variant, {}).get("judges", {}).get(judge, {}).get(attribute, {})


def _summary(metrics: Metrics, variant: str | None, attribute: str) -> Mapping[str, Any]:
    return metrics.get("variants", {}).get(variant, {}).get("bias", {}).get(attribute, {})


def _quality(metrics: Metrics, variant: str | None, key: str) -> float:
    value = metrics.get("variants", {}).get(variant, {}).get("quality", {}).get(key)
    return _number(value.get("mean") if isinstance(value, Mapping) else value)


def _interval(summary: Mapping[str, Any]) -> tuple[float, float]:
    low, high = summary.get("interval") or (None, None)
    return _number(low), _number(high)


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else math.nan


def _text(value: float, spec: str = ".2f") -> str:
    return ABSENT if math.isnan(value) else format(value, spec)


def _pair(before: object, after: object) -> list[str]:
    """Return the cells of a row that has two numbers and their difference."""
    first, second = _number(before), _number(after)
    return [_text(first), _text(second), _text(second - first, "+.2f"), "", "", ""]


def _spread(summary: Mapping[str, Any]) -> str:
    text = f"{_text(_number(summary.get('bias_mean')))} ± {_text(_number(summary.get('bias_sd')))}"
    return f"{FAIR} {text}" if indistinguishable(summary) else text


def _range(summary: Mapping[str, Any]) -> str:
    low, high = _interval(summary)
    return ABSENT if math.isnan(low) else f"[{low:.2f}, {high:.2f}]"


def _p(paired: Mapping[str, Any]) -> str:
    value = _number(paired.get("p_value"))
    if math.isnan(value):
        return ABSENT
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def _images(summary: Mapping[str, Any]) -> str:
    """Return prompts × usable images per prompt."""
    prompts, usable = summary.get("prompts"), summary.get("usable")
    return f"{prompts} × {usable / prompts:.0f}" if prompts and usable is not None else ABSENT
