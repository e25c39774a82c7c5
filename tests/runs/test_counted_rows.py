"""What a run cost in rows of the U-Net: the same however often it was interrupted, whatever was cached."""

import json

import pytest
import torch

from fairbench.finetuning import engine
from fairbench.models.text_to_image import TextToImage
from fairbench.runs.run import run

QUICK = {"rank": 2, "prompts_per_update": 1, "images_per_prompt": 4, "noises_per_prompt": 4, "steps": 3}
METHODS = {
    "biased_dft": QUICK | {"timesteps_per_update": 2},
    "interpret_diffusion": {"images_per_class": 4, "batch_size": 3},
    "nudge": {},
}
TRAINING = {
    # in every update 4 images x 3 steps x 2 halves of the guidance, whose graphs are kept
    "biased_dft": 4 * (4 * 3 * 2),
    # 2 classes x 4 images x 30 steps x 2, one pass that tells the size of a layer, and 3 rows in every update
    "interpret_diffusion": 2 * 4 * 30 * 2 + 2 + 4 * 3,
    "nudge": 0,
}
PER_IMAGE = 2 * 2  # two steps, two halves of the guidance


class Killed(BaseException):
    """As sudden as a kill: what only an ordinary error would do is not done."""


def config(small, method):
    return small.config(method=method, method_options=METHODS[method], updates=4)


def counted(place):
    return json.loads((place / "provenance.json").read_text())["unet_rows"]


def killed_at(stage, count):
    def progress(name, now, total):
        if (name, now) == (stage, count):
            raise Killed

    return progress


@pytest.fixture(autouse=True)
def often(monkeypatch):
    monkeypatch.setattr(engine, "SAVE_EVERY", 2)
    monkeypatch.setattr(TextToImage, "images_at_once", 2)


@pytest.mark.parametrize(
    ("method", "cache"),
    [("biased_dft", "off"), ("biased_dft", "filled"), ("interpret_diffusion", "off"), ("nudge", "off")],
)
def test_rows_are_counted_as_one_would_by_hand(small, tmp_path, monkeypatch, method, cache):
    monkeypatch.setenv("FAIRBENCH_CACHE", "off" if cache == "off" else str(tmp_path / "cache"))
    for place in ("filling", "filled") if cache == "filled" else ("alone",):
        run(config(small, method), tmp_path / place)
        assert counted(tmp_path / place) == {
            "training": TRAINING[method],
            "per_image": {"original": PER_IMAGE, method: PER_IMAGE},
        }


@pytest.mark.parametrize(
    ("method", "moments"),
    [
        # in the middle, and when the last one was written
        ("nudge", [("original images", 2), ("original images", 6), ("debiased images", 6)]),
        # before anything was saved, after the first save, at the end
        ("biased_dft", [("finetuning", 1), ("finetuning", 3), ("finetuning", 4), ("debiased images", 2)]),
        ("interpret_diffusion", [("finetuning", 1), ("finetuning", 3), ("judging", 6)]),
    ],
)
def test_a_run_that_was_killed_costs_what_one_in_a_piece_does(small, tmp_path, monkeypatch, method, moments):
    monkeypatch.setenv("FAIRBENCH_CACHE", "off")
    for stage, count in moments:
        with pytest.raises(Killed):
            run(config(small, method), tmp_path / "run", progress=killed_at(stage, count))
    run(config(small, method), tmp_path / "run")
    assert counted(tmp_path / "run") == {
        "training": TRAINING[method],
        "per_image": {"original": PER_IMAGE, method: PER_IMAGE},
    }


def test_an_update_that_is_taken_again_counts_once(small, tmp_path, monkeypatch):
    """Where memory runs out in the middle; the attempt had cost some rows already."""
    monkeypatch.setenv("FAIRBENCH_CACHE", "off")
    predict, failed = TextToImage.predict_noise, []

    def once(self, latents, *rest, **named):
        found = predict(self, latents, *rest, **named)
        if len(latents) > 3 and not failed and not torch.is_inference_mode_enabled():
            failed.append(True)
            raise RuntimeError("CUDA out of memory")
        return found

    monkeypatch.setattr(TextToImage, "predict_noise", once)
    with pytest.warns(UserWarning, match="memory ran out"):
        run(config(small, "biased_dft"), tmp_path / "run")
    assert failed and counted(tmp_path / "run")["training"] == TRAINING["biased_dft"]
