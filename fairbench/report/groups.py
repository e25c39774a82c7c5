"""The quality of every class by itself: fewer, duller or worse pictures of some are a bias too."""

from collections.abc import Iterator, Mapping

from rich import box
from rich.table import Table

from fairbench.report.layout import NumberTable
from fairbench.report.tables import ABSENT
from fairbench.store.results import Distance, Group, Mean, Metrics

Number = float | Mean | Distance | None

COLUMNS = {
    "images": ("images", "d"),
    "face_rate": ("faces", ".3f"),
    "recognised": ("recognised", ".3f"),
    "clip_t": ("CLIP-T", ".3f"),
    "kid": ("KID", ".3f"),
    "vendi": ("Vendi", ".1f"),
}
"""Key of a number -> what the table calls it and how it is written."""


def within_groups(metrics: Metrics) -> Iterator[Table]:
    """Lay out every attribute that was asked for: a row for each class of each variant."""
    for attribute in metrics.attributes:
        groups = {name: entry.groups.get(attribute, {}) for name, entry in metrics.variants.items()}
        if any(groups.values()):
            yield _table(attribute, groups)


def _table(attribute: str, groups: Mapping[str, Mapping[str, Group]]) -> Table:
    numbers = [number for group in groups.values() for number in group.values()]
    known = {key for number in numbers for key in COLUMNS if _value(number[key]) is not None}
    shown = {key: what for key, what in COLUMNS.items() if key in known}
    table = NumberTable(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=0)
    table.add_column(attribute)
    table.add_column("")
    for name, _ in shown.values():
        table.add_column(name, justify="right", no_wrap=True)
    for variant, group in groups.items():
        for label, number in group.items():
            cells = [_text(number[key], spec) for key, (_, spec) in shown.items()]
            table.add_row(label, variant, *cells)
        table.add_section()
    sizes = {number.vendi_images for number in numbers if number.vendi_images}
    if sizes:
        low, high = min(sizes), max(sizes)
        at = f"{low}" if low == high else f"{low} to {high}"
        table.caption = f"Vendi: effective number of different images among {at}"
        table.caption_justify = "left"
    return table


def _value(number: Number) -> float | None:
    return number.mean if isinstance(number, Mean | Distance) else number


def _text(number: Number, spec: str) -> str:
    value = _value(number)
    if value is None:
        return ABSENT
    interval = number.interval if isinstance(number, Distance) else None
    return format(value, spec) + (f" [{interval[0]:{spec}}, {interval[1]:{spec}}]" if interval else "")
