"""``fairbench diagnose`` from its command line to its files, and every mistake that can be made with it."""

import json
from functools import partial

import pandas as pd
import pytest
from PIL import Image

from fairbench.runs.run import run
from tests.cli import command


@pytest.fixture
def call(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return partial(command.call, capsys, "diagnose")


@pytest.fixture
def quick(small):
    """The options of a diagnosis of a few seconds."""
    return (
        "gradients", "--model", small.root / "model", "--features", small.root / "ssl",
        "--prompt", "face of a cook", "--towards", "face of a maid", "--steps", 3, "--guidance", 2,
        "--seeds", 2, "--updates", 1, "--runs", 1, "--images", 1,
    )  # fmt: skip


def test_gradients_are_shown_kept_and_drawn(call, quick, tmp_path):
    code, out, err = call(*quick, "--out", "found")
    assert code == 0, err
    assert "A only" in out and "noise scale" in out and "found" in out
    place = tmp_path / "found"
    assert {path.name for path in place.iterdir()} == {
        "figure_1.png", "weights.png", "steps.parquet", "curves.parquet", "gradients.json"
    }  # fmt: skip
    assert len(pd.read_parquet(place / "steps.parquet")) == 3
    assert len(pd.read_parquet(place / "curves.parquet")) == 3
    for picture in place.glob("*.png"):
        with Image.open(picture) as image:
            assert image.width > 1000
    assert json.loads((place / "gradients.json").read_text())["settings"]["towards"] == "face of a maid"


def test_gradients_as_json(call, quick):
    code, out, _ = call(*quick, "--json")
    found = json.loads(out)
    assert code == 0 and len(found["per_step"]) == 3
    assert set(found["exact_over"]) == {"raw", "standardised"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--features", "nothing"), "nothing"),
        (("--towards", "face of a cook"), "nothing to minimise"),
        (("--model", "portraits-renderer"), "no diffusion model"),
        (("--model", "portrait"), "did you mean 'portraits'"),
        (("--steps", 5000), "takes at most 1000"),
        (("--steps", 0), "--steps"),
        (("--seeds", 1), "--seeds"),
        (("--images", 17), "--images"),
        (("--prompt", "face of a " + "cook " * 40), "tokens"),
    ],
    ids=str,
)
def test_what_cannot_be_diagnosed_is_refused_before_anything_is_written(
    call, quick, tmp_path, options, message
):
    code, out, err = call(*quick, *options)
    assert (code, out) == (2, "") and message in err and err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_model_without_features_of_its_own_needs_some(call, small):
    code, _, err = call("gradients", "--model", small.root / "model")
    assert code == 2 and "--features" in err


@pytest.fixture(scope="module")
def tuned(built, tmp_path_factory):
    """A finished run with a trained text encoder and U-Net."""
    options = {
        "tune": "text_encoder+unet", "rank": 2, "learning_rate": 0.05, "prompts_per_update": 1,
        "images_per_prompt": 2, "noises_per_prompt": 2, "steps": 2, "timesteps_per_update": 1,
    }  # fmt: skip
    out = tmp_path_factory.mktemp("tuned") / "both"
    metrics = run(built.config(method="biased_dft", method_options=options, updates=2), out)
    return out, metrics


def test_components_share_out_what_the_run_found(call, tuned, tmp_path):
    directory, metrics = tuned
    code, out, err = call("components", directory, "--out", "found", "--json")
    assert code == 0, err
    found = json.loads(out)["runs"]["both"]
    assert found["parts"] == ["text_encoder", "unet"]
    bias = found["quantities"]["bias of gender"]
    for variant, key in (("original", "before"), ("biased_dft", "after")):
        assert bias[key] == pytest.approx(metrics["variants"][variant]["bias"]["gender"]["bias_mean"])
    effects = sum(part["effect"] for part in bias["parts"].values())
    assert effects == pytest.approx(bias["after"] - bias["before"])
    distance = found["quantities"]["distance by ssl"]
    seen = metrics.variants["biased_dft"].quality.value("dino")
    assert distance["after"] == pytest.approx(1 - seen, abs=1e-5)
    assert {path.name for path in (tmp_path / "found").iterdir()} == {"components.json", "shares.png"}
    code, out, _ = call("components", directory, "--out", "found")
    assert code == 0 and "text encoder" in out and "Shapley" in out


def test_what_has_no_parts_is_refused(call, small, tuned, tmp_path):
    nudged, original = tmp_path / "a" / "nudged", tmp_path / "b" / "original"
    run(small.config(), nudged)
    run(small.config(method="original"), original)
    for arguments, message in (
        ((tmp_path / "nowhere",), "not a finished run"),
        ((nudged,), "nudge has tuned no part"),
        ((original,), "nothing to swap"),
        ((tuned[0], tuned[0]), "the same name"),
    ):
        code, out, err = call("components", *arguments)
        assert (code, out) == (2, "") and message in err and err.count("\n") == 1
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b"}
