"""Images on their way to disk: written behind the generation, counted when there, judged from memory."""

import threading

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from fairbench.errors import UserError
from fairbench.images.files import as_bytes, save_image
from fairbench.images.rows import read_back
from fairbench.runs import generation as images
from fairbench.runs.generation import Kept, generate_missing


def rows(count):
    return pd.DataFrame(
        {"prompt": [f"p{k}" for k in range(count)], "seed": range(count),
         "image": [f"images/{k}.png" for k in range(count)]}
    )  # fmt: skip


def picture(seed):
    return torch.rand(3, 6, 5, generator=torch.Generator().manual_seed(seed)) * 1.2 - 0.1


def generate(prompts, seeds):
    return torch.stack([picture(seed) for seed in seeds])


def on_disk(directory):
    return sorted(int(path.stem) for path in directory.glob("images/*.png"))


def test_every_image_is_there_and_holds_its_bytes(tmp_path):
    table = rows(7)
    assert generate_missing(generate, table, tmp_path, lambda done: None, at_once=lambda: 3) == 7
    for seed, (_, image) in zip(range(7), read_back(table, tmp_path), strict=False):
        assert image.shape[1:] == (3, 6, 5)
        wanted = (picture(seed).clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
        assert np.array_equal(np.asarray(Image.open(tmp_path / f"images/{seed}.png")), wanted)
    assert not list(tmp_path.glob("**/.*.tmp"))


def test_what_is_told_is_on_disk(tmp_path):
    told = []

    def progress(done):
        told.append((done, len(on_disk(tmp_path))))

    generate_missing(generate, rows(7), tmp_path, progress, at_once=lambda: 3)
    assert [done for done, _ in told] == [0, 3, 6, 7]
    assert all(there >= done for done, there in told)


def test_a_batch_is_written_while_the_next_one_is_made(tmp_path, monkeypatch):
    """Each waits until the other has begun."""
    writing, making = threading.Event(), threading.Event()
    save = images.save_pixels

    def slow(path, pixels):
        writing.set()
        assert making.wait(60)
        save(path, pixels)

    def second_waits(prompts, seeds):
        if seeds[0]:
            assert writing.wait(60)
            making.set()
        return generate(prompts, seeds)

    monkeypatch.setattr(images, "save_pixels", slow)
    generate_missing(second_waits, rows(4), tmp_path, lambda done: None, at_once=lambda: 2)
    assert on_disk(tmp_path) == [0, 1, 2, 3]


@pytest.mark.parametrize("failing", [0, 2, 4])
def test_an_interruption_costs_no_finished_batch(tmp_path, failing):
    def interrupted(prompts, seeds):
        if seeds[0] == failing:
            raise KeyboardInterrupt
        return generate(prompts, seeds)

    told = []
    with pytest.raises(KeyboardInterrupt):
        generate_missing(interrupted, rows(6), tmp_path, told.append, at_once=lambda: 2)
    assert on_disk(tmp_path) == list(range(failing))
    asked = []

    def again(prompts, seeds):
        asked.extend(seeds)
        return generate(prompts, seeds)

    assert generate_missing(again, rows(6), tmp_path, told.append, at_once=lambda: 2) == 6 - failing
    assert asked == list(range(failing, 6))


def test_an_image_that_cannot_be_written_is_not_told_and_ends_it(tmp_path, monkeypatch):
    save, told = images.save_pixels, []

    def full(path, pixels):
        if path.stem == "3":
            raise UserError("the disk is full")
        save(path, pixels)

    monkeypatch.setattr(images, "save_pixels", full)
    with pytest.raises(UserError, match="the disk is full"):
        generate_missing(generate, rows(8), tmp_path, told.append, at_once=lambda: 2)
    assert max(told) == 2 and 3 not in on_disk(tmp_path)


def test_nobody_is_asked_for_a_batch_where_nothing_is_missing(tmp_path):
    generate_missing(generate, rows(2), tmp_path, lambda done: None)
    assert generate_missing(None, rows(2), tmp_path, lambda done: None, at_once=lambda: 1 / 0) == 0


def test_what_was_just_made_is_read_from_memory_as_its_file_holds_it(tmp_path, monkeypatch):
    table, kept = rows(6), Kept()
    generate_missing(generate, table, tmp_path, lambda done: None, at_once=lambda: 4, kept=kept)
    from_disk = torch.cat([part for _, part in read_back(table, tmp_path)])
    monkeypatch.setattr(images, "read_image", lambda path: 1 / 0)
    from_memory = torch.cat([part for _, part in read_back(table, tmp_path, kept.read)])
    assert torch.equal(from_memory, from_disk)


def test_what_does_not_fit_into_memory_is_read_from_its_file(tmp_path):
    table, kept = rows(6), Kept(limit=2 * 6 * 5 * 3)
    generate_missing(generate, table, tmp_path, lambda done: None, kept=kept)
    (tmp_path / "images/0.png").unlink()
    save_image(tmp_path / "images/5.png", torch.zeros(3, 6, 5))
    read = [kept.read(tmp_path / name) for name in table["image"]]
    assert np.array_equal(read[0], as_bytes(picture(0)[None])[0]) and not read[5].any()
