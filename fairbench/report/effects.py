"""The table of what debiasing did besides: prompts that name an attribute, and pictures of nobody."""

from rich import box
from rich.table import Table

from fairbench.report.layout import NumberTable
from fairbench.report.tables import ABSENT
from fairbench.store.results import Metrics, Share

NAMES = {"people": "shows a person", "clip_i": "CLIP-I", "dino": "DINO", "all": "all at once"}


def side_effects(metrics: Metrics) -> Table | None:
    """Lay out obedience or preservation, one column per variant; None where the suite is about neither."""
    kind = metrics.measures
    if kind == "bias":
        return None
    columns = {name: entry[kind] for name, entry in metrics.variants.items()}
    table = NumberTable(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in (kind, *columns, "p", "n"):
        label = heading == kind
        table.add_column(heading, justify="left" if label else "right", no_wrap=not label)
    for key in dict.fromkeys(key for shares in columns.values() for key in shares):
        cells = [_share(shares.get(key)) for shares in columns.values()]
        paired = metrics.side_effects.get(key)
        p = format(paired.p_value, ".3f") if paired else ABSENT
        n = next(shares[key] for shares in columns.values() if key in shares)
        table.add_row(NAMES.get(key, key), *cells, p, f"{n.prompts} × {n.images / n.prompts:.0f}")
    return table


def _share(share: Share | None) -> str:
    if share is None:
        return ABSENT
    low, high = share.interval or (None, None)
    return f"{share.mean:.3f}" + ("" if low is None else f" [{low:.3f}, {high:.3f}]")
