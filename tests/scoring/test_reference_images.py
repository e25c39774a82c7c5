"""Evaluations of callables, folders, tables and runs, against the run that wrote the same images."""

import json

import pandas as pd
import pytest
from safetensors.torch import load_file

from fairbench.errors import UserError
from fairbench.metrics.quality import fid, kid
from fairbench.runs.evaluate import evaluate_images
from fairbench.runs.run import run
from tests.runs.folders import config_of, folder_of, picture


@pytest.mark.parametrize("called", ["as the prompts", "otherwise"])
def test_a_folder_of_references_gives_a_folder_its_distances(small, tmp_path, called):
    prompts = ["prompt_0", "prompt_1"]
    images = folder_of(tmp_path / "images", prompts, 6)
    place = tmp_path / "reference"
    folder_of(place, prompts if called == "as the prompts" else ["photographs"], 12, seed=100)
    found = evaluate_images(config_of(small, images, reference=str(place)), tmp_path / "e")
    quality = found["variants"]["original"]["quality"]
    each = len(list(place.rglob("*.png")))
    assert quality["distance_images"].to_json() == {"generated": 12, "reference": each}
    features = load_file(tmp_path / "e" / "features.safetensors")
    mine, theirs = features["ssl/original"], features["ssl/reference"]
    assert quality["kid"]["mean"] == pytest.approx(kid(mine, theirs)["mean"])
    low, high = quality["kid"]["interval"]
    assert low < high
    assert quality["fid"] == pytest.approx(fid(mine, theirs)["value"])
    provenance = json.loads((tmp_path / "e" / "provenance.json").read_text())
    assert len(provenance["sha256"]["reference"]) == 64


def test_a_model_is_compared_with_a_folder_of_references(small, tmp_path):
    place = folder_of(tmp_path / "reference", ["prompt_1", "prompt_0"], 4)  # numbers of the suite's prompts
    config = small.config(method="original", images_per_prompt=4, reference=str(place))
    quality = run(config, tmp_path / "run")["variants"]["original"]["quality"]
    assert quality["distance_images"].to_json() == {"generated": 8, "reference": 8}
    assert set(pd.read_parquet(tmp_path / "run" / "reference.parquet")["prompt_id"]) == {"cook", "maid"}


def test_labels_alone_are_not_those_of_the_reference(small, tmp_path):
    names = [picture(tmp_path / f"{k}.png", k).name for k in range(4)]
    table = pd.DataFrame({"path": names, "prompt": ["a", "a", "b", "b"], "gender": ["male", "female"] * 2})
    table.to_csv(tmp_path / "t.csv", index=False)
    place = folder_of(tmp_path / "reference", ["photographs"], 4)
    config = config_of(small, tmp_path / "t.csv", judges=[], reference=str(place))
    quality = evaluate_images(config, tmp_path / "e")["variants"]["original"]["quality"]
    assert quality["kid"]["mean"] is not None and "kid_matched" not in quality


@pytest.mark.parametrize(
    ("spoil", "changes", "message"),
    [
        (lambda place: None, {}, "neither a folder nor a table"),
        (lambda place: place.mkdir(), {}, "holds no images"),
        (lambda place: picture(place / "0.png").write_bytes(b"text"), {}, "cannot be read as an image"),
        (lambda place: picture(place / "0.png"), {"features": []}, "--features"),
    ],
)
def test_a_reference_that_cannot_be_used_stops_before_anything_is_written(
    small, tmp_path, spoil, changes, message
):
    images = folder_of(tmp_path / "images", ["prompt_0"], 1)
    spoil(tmp_path / "reference")
    settings = {"reference": str(tmp_path / "reference")} | changes
    with pytest.raises(UserError, match=message):
        evaluate_images(config_of(small, images, **settings), tmp_path / "e")
    with pytest.raises(UserError, match=message):
        run(small.config(method="original", **settings), tmp_path / "e")
    assert not (tmp_path / "e").exists()


def test_one_reference_image_is_too_few_and_said(small, tmp_path):
    images = folder_of(tmp_path / "images", ["prompt_0"], 4)
    picture(tmp_path / "reference" / "0.png")
    found = evaluate_images(config_of(small, images, reference=str(tmp_path / "reference")), tmp_path / "e")
    quality = found["variants"]["original"]["quality"]
    assert quality["fid"] is quality["kid"]["mean"] is quality["kid_matched"] is None
    assert {note.partition(":")[0] for note in found["notes"]} == {"FID of original", "KID of original"}
