"""The table of each class by itself, against the numbers that it is made of."""

import io

from rich.console import Console

from fairbench.report.groups import within_groups
from tests.stored_metrics import metrics_of


def group(images, kid=None):
    return {
        "images": images,
        "face_rate": 0.75,
        "clip_t": {"mean": 0.25, "sd": 0.1, "images": images},
        "kid": kid,
        "vendi": 7.25 if images else None,
        "vendi_images": 30 if images else None,
    }


def test_every_class_of_every_variant_has_a_row():
    groups = {"female": group(30, {"mean": 0.0123, "interval": [0.001, 0.02]}), "male": group(0)}
    variants = {"original": {"groups": {"gender": groups}}, "m": {"groups": {"gender": groups, "race": {}}}}
    tables = list(within_groups(metrics_of(attributes=["gender", "race", "age"], variants=variants)))
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(*tables)
    text = console.export_text()
    rows = [row.split() for row in text.splitlines()]
    assert len(tables) == 1
    assert rows[0] == ["gender", "images", "faces", "CLIP-T", "KID", "Vendi"]
    assert ["female", "m", "30", "0.750", "0.250", "0.012", "[0.001,", "0.020]", "7.2"] in rows
    assert ["male", "original", "0", "0.750", "0.250", "–", "–"] in rows
    assert "among 30" in text


def test_a_run_without_groups_has_no_table():
    assert list(within_groups(metrics_of())) == []
    assert list(within_groups(metrics_of(variants={"original": {}}))) == []
