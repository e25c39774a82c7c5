"""Real faces for any model, and the paper's experiments from the command line to the end."""

import json

import numpy as np
import pytest
from PIL import Image

from fairbench.errors import UserError
from fairbench.features import identify_features
from fairbench.intervention_files import load_intervention
from fairbench.runs.run import run
from tests.cli.command import call
from tests.runs.small import built, small

__all__ = ["built", "small"]


@pytest.fixture
def people(tmp_path):
    """Four pictures, not all of one size."""
    folder = tmp_path / "people"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for number, (height, width) in enumerate([(64, 64), (64, 64), (80, 70), (48, 64)]):
        pixels = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


@pytest.mark.parametrize(
    ("preset", "learnt"),
    [
        ("exp-1", "pytorch_lora_weights.safetensors"),
        ("exp-2", "learned_embeds.safetensors"),
        ("exp-3", "pytorch_lora_weights.safetensors"),
        ("exp-4", "pytorch_lora_weights.safetensors"),
        ("exp-5", "pytorch_lora_weights.safetensors"),
        ("exp-6", "pytorch_lora_weights.safetensors"),
    ],
)
def test_an_experiment_of_the_paper_runs_on_another_stable_diffusion(
    capsys, small, people, tmp_path, preset, learnt
):
    named = {
        "--preset": preset, "--model": small.root / "model", "--suite": small.root / "jobs.yaml",
        "--judge": "portraits-eval-a", "--training-judge": "portraits-train",
        "--training-features": small.root / "ssl-train", "--real-faces": people,
        "--face-features": small.root / "clip", "--updates": 1, "--images-per-prompt": 2, "--steps": 2,
        "--out": tmp_path / "run",
    }  # fmt: skip
    code, _, err = call(capsys, "run", *(word for pair in named.items() for word in pair), "--json")
    assert code == 0, err
    sha256 = json.loads((tmp_path / "run" / "provenance.json").read_text())["sha256"]
    assert set(sha256["training_features"]) == {"ssl-train", "clip"} and sha256["real_faces"]
    assert (tmp_path / "run" / "adapter" / learnt).is_file()
    assert list(load_intervention(tmp_path / "run" / "adapter").settings["faces"]) == ["clip"]


QUICK = {
    "rank": 2, "prompts_per_update": 1, "images_per_prompt": 4, "noises_per_prompt": 4, "steps": 2,
    "timesteps_per_update": 1,
}  # fmt: skip


def facing(small, people, **changes):
    """Return settings with the face loss."""
    settings = {"method": "biased_dft", "method_options": QUICK | {"face_weight": 1}, "updates": 1}
    return small.config(**settings, real_faces=str(people), **changes)


def test_another_real_face_is_another_run(small, people, tmp_path):
    run(facing(small, people), tmp_path / "run")
    Image.new("RGB", (64, 64), "white").save(people / "0.png")
    with pytest.raises(UserError, match=r"made of other files .*real faces"):
        run(facing(small, people), tmp_path / "run")


def test_what_is_wrong_with_faces_is_said_before_anything_is_written(small, people, tmp_path):
    place = tmp_path / "run"
    with pytest.raises(UserError, match="name a folder of them with --real-faces"):
        run(facing(small, people).model_copy(update={"real_faces": None}), place)
    with pytest.raises(UserError, match="neither a folder nor a table"):
        run(facing(small, people / "nowhere"), place)
    clip = str(small.root / "clip")
    assert identify_features(clip)[0] == "clip"
    with pytest.raises(UserError, match="features clip train the method"):
        run(facing(small, people, face_features=clip), place)
    (people / "3.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"3\.png: cannot be read as an image"):
        run(facing(small, people), place)
    assert not place.exists()
