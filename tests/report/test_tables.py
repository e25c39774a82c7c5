import copy
import io

import pytest
from rich.console import Console

from fairbench.cli.export import measured
from fairbench.metrics.summary import summarise
from fairbench.report import tables
from fairbench.store.results import Metrics, Summary
from tests.stored_metrics import metrics_of


def summary(mean, low, high, floor=0.2):
    return {
        "bias_mean": mean,
        "bias_sd": 0.25,
        "interval": [low, high],
        "debiased": mean - 0.02,
        "corrected": {"gap": mean + 0.01},
        "bounds": [mean - 0.01, mean + 0.01],
        "floor": floor,
        "prompts": 20,
        "images": 320,
        "usable": 317,
        "face_rate": 317 / 320,
        "per_prompt": [],
    }


METRICS = {
    "schema_version": 3,
    "method": "biased_dft",
    "draw_class": "emergent",
    "model": "portraits",
    "suite": "occupations",
    "attributes": ["gender"],
    "primary_judge": "portraits-eval-a",
    "training_judge": "portraits-train",
    "variants": {
        "original": {
            "bias": {"gender": summary(0.68, 0.61, 0.75), "gender x race": summary(0.21, 0.20, 0.22, 0.1)},
            "judges": {
                "portraits-eval-a": {"gender": {"bias_mean": 0.68}},
                "portraits-train": {"gender": {"bias_mean": 0.69}},
            },
            "quality": {
                "recognised": {"mean": 0.9876},
                "face_rate": 0.99,
                "fid": None,
                "kid": {"mean": 0.0123, "interval": [-0.0012, 0.0224]},
                "kid_matched": {"mean": 0.0099},
                "distance_images": {"generated": 320, "reference": 300},
            },
        },
        "biased_dft": {
            "bias": {"gender": summary(0.21, 0.15, 0.27), "gender x race": summary(0.18, 0.17, 0.19, 0.1)},
            "judges": {
                "portraits-eval-a": {"gender": {"bias_mean": 0.21}},
                "portraits-train": {"gender": {"bias_mean": 0.12}},
            },
            "quality": {
                "recognised": {"mean": 0.961},
                "face_rate": 0.98,
                "clip_i": {"mean": 0.87},
                "fid": 13.9,
            },
        },
    },
    "paired": {"gender": {"difference": -0.47, "p_value": 0.0001, "prompts": 20}, "gender x race": None},
    "gaming_gap": {"gender": {"value": -0.09, "interval": [-0.12, -0.06]}},
    "notes": ["FID of original: 12 images are too few for 64 features: at least 65"],
}


def rendered(metrics, width=80):
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(tables.before_after(Metrics.model_validate(metrics)))
    return console.export_text()


def line(text, start):
    """The rest of the first line that begins so, its spaces evened out."""
    found = next(row.strip() for row in text.splitlines() if row.strip().startswith(start))
    return " ".join(found.removeprefix(start).split())


def test_the_table_of_a_run():
    text = rendered(METRICS)
    assert "biased_dft (emergent) · portraits · occupations" in text
    assert line(text, "gender") == "0.68 ± 0.25 ≈ 0.21 ± 0.25 -0.47 <0.001 0.20 20 × 16"
    assert line(text, "95 % interval") == "[0.61, 0.75] [0.15, 0.27]"
    assert line(text, "rms, no noise") == "0.66 0.19 -0.47"
    assert line(text, "rms, no errors") == "0.69 0.22 -0.47"
    assert line(text, "faceless bounds") == "[0.67, 0.69] [0.20, 0.22]"
    assert line(text, "gaming gap") == "-0.09"
    assert "[-0.12, -0.06]" in text
    assert line(text, "portraits-train") == "0.69 0.12 -0.57"
    assert line(text, "gender x race") == "0.21 ± 0.25 0.18 ± 0.25 – – 0.10 20 × 16"
    assert line(text, "recognised") == "0.988 0.961 -0.027"
    assert line(text, "CLIP-I") == "– 0.870 –"
    assert line(text, "FID") == "– 13.9 –"
    assert line(text, "KID") == "0.0123 – –" and "[-0.001, 0.022]" in text
    assert line(text, "KID, same people") == "0.0099 – –"
    assert "judged by portraits-eval-a · trained with portraits-train" in text
    assert METRICS["notes"][0] in text and "FID, KID: 320 images and 300 to compare" in text


def test_the_table_says_what_target_a_bias_is_measured_from():
    metrics = copy.deepcopy(METRICS)
    for variant in metrics["variants"].values():
        variant["bias"]["gender"]["target"] = [0.25, 0.75]
    assert "gender: bias, gap and floor are measured from the target 0.25/0.75" in rendered(metrics)
    assert "measured from the target" not in rendered(METRICS)
    card = measured(Metrics.model_validate(metrics))
    assert card[0]["what"] == "bias gender (measured from the target 0.25/0.75; a model on target: 0.20)"
    assert card[1]["what"] == "bias gender x race (a fair model: 0.10)"


def test_it_fits_a_terminal_of_80_columns():
    assert "…" not in rendered(METRICS)


def test_only_the_original_model():
    metrics = copy.deepcopy(METRICS)
    del metrics["variants"]["biased_dft"]
    text = rendered(metrics)
    assert "debiased" not in text
    assert line(text, "gender") == "0.68 ± 0.25 0.20 20 × 16"


@pytest.mark.parametrize("variants", [{}, {"original": {}}, {"original": {}, "m": {"bias": {"gender": {}}}}])
def test_missing_numbers_are_dashes(variants):
    metrics = metrics_of(variants=variants)
    assert "bias" in rendered(metrics)
    assert "nan" not in rendered(metrics)


@pytest.mark.parametrize(
    ("low", "high", "fair"), [(0.15, 0.27, True), (0.20, 0.3, True), (0.21, 0.3, False), (0.0, 0.1, True)]
)
def test_fair_is_what_reaches_down_to_the_floor(low, high, fair):
    assert tables.indistinguishable(Summary(**summary(0.2, low, high))) is fair


def test_no_interval_is_never_called_fair():
    assert not tables.indistinguishable(Summary(interval=None, floor=0.2))


def test_the_frame_of_real_summaries(make_records):
    records = make_records()
    variants = {
        str(v): {"bias": summarise(rows, "judge", ["gender"])} for v, rows in records.groupby("variant")
    }
    metrics = metrics_of(variants=variants)
    frame = tables.bias_frame(metrics).set_index(["variant", "attribute"])
    assert frame.loc[("original", "gender"), "bias_mean"] == pytest.approx((1 + 1 + 0.4) / 3)
    assert frame.loc[("biased_dft", "gender"), "bias_mean"] == pytest.approx((0.2 + 0.0 + 0.4) / 3)
    assert "per_prompt" not in frame
    assert "nan" not in rendered(metrics)
