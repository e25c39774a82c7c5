"""The table at the end of a run: bias before and after, what a fair model scores, and the cost in quality.

`bias_frame` holds the biases and their tests, one row each, for whoever wants to go on computing.
"""

import math
from collections.abc import Iterator

import pandas as pd
from rich import box
from rich.table import Table

from fairbench.records import ORIGINAL
from fairbench.report.layout import NumberTable
from fairbench.store.results import (
    Interval,
    Metrics,
    PairedTest,
    Quality,
    Summary,
    TrainingWarning,
    VariantMetrics,
)

FAIR = "≈"
ROUNDING = 1e-9
"""How far a floor and an interval may miss each other and still be the same number."""
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
    method = metrics.variant
    table = NumberTable(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=0)
    table.title, table.title_justify = _title(metrics), "left"
    table.caption, table.caption_justify = _caption(metrics), "left"
    table.add_column("bias")
    for name in ("original", *(("debiased", "change", "p") if method else ()), "floor", "n"):
        table.add_column(name, justify="right", no_wrap=True)
    for attribute in dict.fromkeys(name for entry in metrics.variants.values() for name in entry.bias):
        for label, style, cells in _bias_rows(metrics, attribute):
            table.add_row(label, *(cells if method else [cells[0], *cells[4:]]), style=style)
    table.add_section()
    before, after = (entry.quality for entry in _sides(metrics))
    for key, (name, spec) in QUALITY.items():
        if before.value(key) is not None or after.value(key) is not None:
            values = _pair(before.value(key), after.value(key), spec)[:3]
            table.add_row(name, *(values if method else values[:1]))
            if ranges := _quality_ranges(before, after, key):
                table.add_row(INTERVAL, *(ranges if method else ranges[:1]), style="dim")
    return table


def bias_frame(metrics: Metrics) -> pd.DataFrame:
    """Return one row per variant and attribute: its bias as the primary judge sees it, and its test.

    ``difference`` and ``p_value`` are those of the paired test against the original model.
    """
    rows = []
    for variant, entry in metrics.variants.items():
        for attribute, summary in entry.bias.items():
            paired = metrics.paired.get(attribute) if variant == metrics.variant else None
            rows.append(
                {
                    "method": ORIGINAL if variant == ORIGINAL else metrics.method,
                    "variant": variant,
                    "attribute": attribute,
                    **{name: summary[name] for name in ("bias_mean", "bias_sd")},
                    **_ends("", summary.interval),
                    **{name: summary[name] for name in ("floor", "debiased")},
                    **_ends("debiased_", summary.debiased_interval),
                    "corrected": _corrected(summary),
                    "difference": paired.difference if paired else None,
                    "p_value": paired.p_value if paired else None,
                    **{name: summary[name] for name in ("prompts", "images", "usable", "face_rate")},
                }
            )
    return pd.DataFrame(rows)


def indistinguishable(summary: Summary) -> bool:
    """Tell whether a fair model could have scored this: its 95 % interval reaches down to the noise floor."""
    if summary.interval is None or summary.floor is None:
        return False
    return summary.interval[0] <= summary.floor + ROUNDING


def _sides(metrics: Metrics) -> tuple[VariantMetrics, VariantMetrics]:
    """Return the original and the debiased variant, each empty where it was not measured."""
    before, after = (metrics.variants.get(name or "") for name in (ORIGINAL, metrics.variant))
    return before or VariantMetrics(), after or VariantMetrics()


def _title(metrics: Metrics) -> str:
    return f"{metrics.method} ({metrics.draw_class}) · {metrics.model} · {metrics.suite}"


def _caption(metrics: Metrics) -> str:
    trained = [f"trained with {metrics.training_judge}"] if metrics.training_judge else []
    targets = [
        f"{name}: bias, gap and floor are measured from the target{target}, not from even shares"
        for name in metrics.attributes
        if (target := from_target(_sides(metrics)[0].bias.get(name, Summary())))
    ]
    judges = " · ".join([f"judged by {metrics.primary_judge}", *trained])
    warnings = [f"warning: {each.name}{_since(each)}: {each.sentence}" for each in metrics.warnings]
    notes = (*_alone(metrics), *_compared(metrics), *metrics.notes)
    return "\n".join([LEGEND, *targets, judges, *notes, *warnings])


def _alone(metrics: Metrics) -> list[str]:
    """Say so where no prompt has two images of a variant, which any model makes of one class alone."""
    summaries = [summary for entry in metrics.variants.values() for summary in entry.bias.values()]
    most = max((each.usable for summary in summaries for each in summary.per_prompt), default=0)
    return ["one image per prompt says nothing of bias: make more of each"] if most == 1 else []


def _compared(metrics: Metrics) -> list[str]:
    """Say how many images FID and KID are of: neither is worth anything without."""
    counts = next((entry.quality.distance_images for entry in metrics.variants.values()), None)
    return [f"FID, KID: {counts.generated} images and {counts.reference} to compare"] if counts else []


def from_target(summary: Summary) -> str:
    """Spell the target that the bias is measured from, after a space; nothing where it is uniform."""
    return f" {'/'.join(f'{share:g}' for share in summary.target)}" if summary.target else ""


def _since(warning: TrainingWarning) -> str:
    return f", since update {warning.since}" if warning.since is not None else ""


def _bias_rows(metrics: Metrics, attribute: str) -> list[tuple[str, str, list[str]]]:
    """Return (label, style, cells): the bias, its interval, the gap without noise.

    Of what the run set out for also what faceless images could change, judge errors, and the other judges.
    """
    before, after = (entry.bias.get(attribute) for entry in _sides(metrics))
    last = after or before or Summary()
    before, after = before or Summary(), after or Summary()
    wanted, paired = attribute in metrics.balanced, metrics.paired.get(attribute)
    change = shown(paired.difference if paired else None, "+.2f")
    tail = [change, _p(paired), shown(last.floor), _images(last)]
    rows = [
        (attribute, "bold", [_spread(before), _spread(after), *tail]),
        (INTERVAL, "dim", _ranges(before.interval, after.interval)),
    ]
    if wanted and any(summary.usable != summary.images for summary in (before, after)):
        rows.append(("  faceless bounds", "dim", _ranges(before.bounds, after.bounds)))
    rows.append(("  rms, no noise", "dim", _pair(before.debiased, after.debiased)))
    if wanted:
        if before.corrected or after.corrected:
            rows.append(("  rms, no errors", "dim", _pair(_corrected(before), _corrected(after))))
        rows += _judge_rows(metrics, attribute)
    return rows


def _judge_rows(metrics: Metrics, attribute: str) -> Iterator[tuple[str, str, list[str]]]:
    """Return what the other judges see, and what the training judge sees more than those held out."""
    sides = _sides(metrics)
    for judge in sides[0].judges:
        if judge != metrics.primary_judge:
            first, last = (entry.judges.get(judge, {}).get(attribute, Summary()) for entry in sides)
            yield f"  {judge}", "dim", _pair(first.bias_mean, last.bias_mean)
    if gap := metrics.gaming_gap.get(attribute):
        yield "  gaming gap", "dim", ["", shown(gap.value, "+.2f"), "", "", "", ""]
        yield INTERVAL, "dim", ["", _range(gap.interval), "", "", "", ""]


def _quality_ranges(before: Quality, after: Quality, key: str) -> list[str]:
    """Return the cells of the intervals of a measure; none where neither variant has one."""
    ranges = before.interval(key), after.interval(key)
    return _ranges(*ranges, ".3f")[:2] if any(ranges) else []


def _corrected(summary: Summary) -> float | None:
    return summary.corrected.gap if summary.corrected else None


def _ends(name: str, interval: Interval) -> dict[str, float | None]:
    low, high = interval or (None, None)
    return {f"{name}low": low, f"{name}high": high}


def shown(value: float | None, spec: str = ".2f") -> str:
    """Write a number, or a dash where there is none."""
    return ABSENT if value is None or math.isnan(value) else format(value, spec)


def _pair(before: float | None, after: float | None, spec: str = ".2f") -> list[str]:
    """Return the cells of a row that has two numbers and their difference."""
    change = None if before is None or after is None else after - before
    return [shown(before, spec), shown(after, spec), shown(change, f"+{spec}"), "", "", ""]


def _spread(summary: Summary) -> str:
    text = f"{shown(summary.bias_mean)} ± {shown(summary.bias_sd)}"
    return f"{FAIR} {text}" if indistinguishable(summary) else text


def _ranges(before: Interval, after: Interval, spec: str = ".2f") -> list[str]:
    """Return the cells of a row that has two intervals."""
    return [_range(before, spec), _range(after, spec), "", "", "", ""]


def _range(interval: Interval, spec: str = ".2f") -> str:
    return f"[{interval[0]:{spec}}, {interval[1]:{spec}}]" if interval else ABSENT


def _p(paired: PairedTest | None) -> str:
    value = paired.p_value if paired else None
    if value is None:
        return ABSENT
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def _images(summary: Summary) -> str:
    """Return prompts × usable images per prompt."""
    prompts, usable = summary.prompts, summary.usable
    return f"{prompts} × {usable / prompts:.0f}" if prompts and usable is not None else ABSENT
