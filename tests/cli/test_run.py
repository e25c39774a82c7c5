import json
from pathlib import Path

import pandas as pd
import pytest
import yaml

from fairbench.models.text_to_image import TextToImage
from tests.cli.command import call
from tests.models.memories import OutOfMemory


@pytest.fixture(scope="module")
def command(built, tmp_path_factory):
    """The command line of a run of the small world."""
    place = tmp_path_factory.mktemp("cli")
    (place / "settings.yaml").write_text(yaml.safe_dump(built.settings(seed=3)))
    return ["run", "--config", str(place / "settings.yaml"), "--out", str(place / "run")]


def test_a_run_shows_its_table_and_draws_its_pictures_and_the_same_command_shows_it_again(
    capsys, small, command
):
    code, out, err = call(capsys, *command)
    assert code == 0, err
    assert "gender" in out and "CLIP-T" in out and "already done" not in out
    again, repeated, _ = call(capsys, *command)
    assert again == 0 and "already done" in repeated
    assert repeated.partition("\n")[2] == out
    _, machine, _ = call(capsys, *command, "--json")
    assert json.loads(machine)["variants"].keys() == {"original", "nudge"}


def test_options_win_over_the_settings_file(capsys, small, command, tmp_path):
    out = tmp_path / "run"
    changed = [
        *command[:3],
        "--out",
        str(out),
        "--method",
        "nudge[size=0.25]",
        "--images-per-prompt",
        "2",
        "--json",
    ]
    assert call(capsys, *changed)[0] == 0
    kept = yaml.safe_load((out / "config.yaml").read_text())
    assert (kept["seed"], kept["images_per_prompt"], kept["method_options"]) == (3, 2, {"size": 0.25})
    assert {path.name for path in (out / "pictures").iterdir()} == {
        "before_after.png", "gender_by_prompt.png", "training.png",
    }  # fmt: skip


def test_a_small_card_is_a_line_of_warning_and_the_same_run(capsys, small, command, tmp_path, monkeypatch):
    call(capsys, *command)
    monkeypatch.setattr(TextToImage, "decode", on_a_small_card(TextToImage.decode, most=2))
    out = tmp_path / "run"
    code, _, err = call(capsys, *command[:3], "--out", out, "--json")
    assert code == 0, err
    line = "fairbench: warning: memory ran out: images are decoded {} at a time from now on\n"
    assert err == line.format(3) + line.format(1)  # of six
    whole, parts = (pd.read_parquet(Path(place) / "records.parquet") for place in (command[-1], out))
    pd.testing.assert_frame_equal(parts, whole, atol=1e-3)


def on_a_small_card(decode, most):
    """Return the decoder of a card that runs out of memory with more than so many images."""

    def limited(model, latents):
        if len(latents) > most:
            raise OutOfMemory
        return decode(model, latents)

    return limited
