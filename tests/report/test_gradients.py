import numpy as np
import pandas as pd
from rich.console import Console

from fairbench.report import components, gradients

RULES = ("exact", "raw", "standardised")


def steps(count=4):
    table = pd.DataFrame({"step": range(1, count + 1), "timestep": np.linspace(999, 50, count), "gain": -1.5})
    for mode in ("standardised", "official"):
        table[f"weight_{mode}"] = -0.5
    for rule in RULES:
        table[f"scale_{rule}"], table[f"low_{rule}"], table[f"high_{rule}"] = 0.02, 0.01, 0.09
        table[f"share_{rule}"] = 1 / count
    return table


def curves(updates):
    rows = [(rule, run, u, 1 / u) for rule in RULES for run in range(2) for u in range(1, updates + 1)]
    return pd.DataFrame(rows, columns=["rule", "run", "update", "loss"])


def printed(table):
    console = Console(width=100, record=True)
    console.print(table)
    return console.export_text()


def test_the_pictures_are_the_same_again_and_take_any_length(tmp_path):
    for updates, count in ((1, 1), (30, 12)):
        first = gradients.figure_one(steps(count), curves(updates), tmp_path / "a.png").read_bytes()
        assert gradients.figure_one(steps(count), curves(updates), tmp_path / "b.png").read_bytes() == first
        assert gradients.weights(steps(count), tmp_path / "w.png").stat().st_size > 5000


def test_the_tables_fit_a_narrow_screen_and_hold_the_numbers():
    text = printed(gradients.steps_table(steps()))
    assert "999" in text and "0.01–0.09" in text and " 25 " in text
    summary = {
        "exact_over": {"raw": 0.25, "standardised": None},
        "cosine": {"raw": {"update": 0.5}, "standardised": {"update": 0.75}},
        "noise_scale": {"exact": 3.25, "raw": None, "standardised": 4.0},
        "final_loss": dict.fromkeys(RULES, 0.125),
        "nonfinite_rate": dict.fromkeys(RULES, 0.5),
    }
    text = printed(gradients.summary_table(summary))
    for number in ("0.25", "0.50", "0.75", "3.2", "4.0", "0.125", "50%", "–"):
        assert number in text


def part(share, low, high):
    return {"effect": -share, "interval": (low, high), "share": share, "share_interval": (low, high)}


def test_components_are_drawn_and_laid_out(tmp_path):
    nothing = {"effect": 0.0, "interval": None, "share": None, "share_interval": None}
    found = {
        "parts": ["text_encoder", "unet"],
        "quantities": {
            "bias of gender": {
                "before": 0.75,
                "after": 0.25,
                "parts": {"text_encoder": part(0.9, 0.7, 1.1), "unet": part(0.1, -0.1, 0.3)},
            },
            "not recognised": {
                "before": 0.0, "after": None, "parts": {"text_encoder": nothing, "unet": nothing}
            },
        },
    }  # fmt: skip
    text = printed(components.table("mine", found))
    for number in ("0.750", "0.250", "90%", "[70%, 110%]", "–"):
        assert number in text
    one = components.shares({"mine": found}, tmp_path / "one.png").read_bytes()
    assert components.shares({"mine": found}, tmp_path / "again.png").read_bytes() == one
    assert components.shares({"a": found, "b": found}, tmp_path / "two.png").stat().st_size > 5000
