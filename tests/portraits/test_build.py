"""The parts of the build: a tokenizer as CLIP has it, and a training that resumes to the same bits."""

import numpy as np
import pytest
import torch
from torch import nn

from fairbench.portraits.build.autoencoder import build_autoencoder
from fairbench.portraits.build.contrastive import shifted
from fairbench.portraits.build.data import load_or_draw
from fairbench.portraits.build.loop import Plan, batch, train
from fairbench.portraits.build.tokenizer import MAX_LENGTH, build_tokenizer
from fairbench.portraits.build.unet import build_unet
from fairbench.portraits.captions import neutral
from fairbench.portraits.world import roles


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    captions = [neutral(role) for role in roles().values()]
    return build_tokenizer(captions * 10, 2000, tmp_path_factory.mktemp("tokenizer"))


def test_the_end_of_text_token_is_the_last_and_pads(tokenizer):
    assert tokenizer.eos_token_id == tokenizer.pad_token_id == len(tokenizer) - 1
    assert tokenizer.model_max_length == MAX_LENGTH


def test_known_words_are_single_tokens_and_unknown_ones_are_spelt(tokenizer):
    assert tokenizer.tokenize("a photo of the face") == [
        "a</w>",
        "photo</w>",
        "of</w>",
        "the</w>",
        "face</w>",
    ]
    assert "".join(tokenizer.tokenize("zebra")) == "zebra</w>"


def test_every_prompt_fits(tokenizer):
    assert max(len(tokenizer(neutral(role)).input_ids) for role in roles().values()) <= MAX_LENGTH


def test_pictures_are_drawn_once_and_read_again(tmp_path):
    first, again = load_or_draw(tmp_path, 2000, seed=9), load_or_draw(tmp_path, 2000, seed=9)
    assert torch.equal(first.pixels, again.pixels)
    assert first.captions == again.captions
    assert set(first.labels) == {"gender", "race", "age", "concept", "face"}
    assert first.images(torch.arange(3)).shape == (3, 3, 64, 64)


def test_the_networks_have_the_documented_sizes():
    latent = build_autoencoder().encode(torch.zeros(1, 3, 64, 64)).latent_dist.mean
    assert latent.shape == (1, 8, 8, 8)
    assert sum(parameter.numel() for parameter in build_unet(128).parameters()) < 5e6


def test_a_shift_moves_by_at_most_three_pixels():
    image = torch.arange(64.0).expand(1, 1, 64, 64)
    generator = torch.Generator().manual_seed(0)
    columns = [shifted(image, generator)[0, 0, 0, 32].item() - 32 for _ in range(50)]
    assert set(columns) == set(range(-3, 4))


def fitted(directory, interrupt_at: int | None, monkeypatch) -> np.ndarray:
    monkeypatch.setattr("fairbench.portraits.build.loop.SAVE_EVERY", 5)
    data = torch.randn(100, 4, generator=torch.Generator().manual_seed(0))

    def once(stop: int | None) -> nn.Module:
        torch.manual_seed(1)
        network = nn.Linear(4, 4)

        def loss(step: int) -> torch.Tensor:
            if step == stop:
                raise KeyboardInterrupt
            index, _ = batch(100, 8, seed=2, step=step)
            return (network(data[index]) - data[index].flip(1)).square().mean()

        train("toy", network, loss, Plan(steps=20, learning_rate=0.05), directory)
        return network

    if interrupt_at is not None:
        with pytest.raises(KeyboardInterrupt):
            once(interrupt_at)
    return torch.cat([parameter.flatten() for parameter in once(None).parameters()]).detach().numpy()


def test_an_interrupted_training_ends_with_the_same_weights(tmp_path, monkeypatch):
    whole = fitted(tmp_path / "whole", None, monkeypatch)
    resumed = fitted(tmp_path / "resumed", 13, monkeypatch)
    assert np.array_equal(whole, resumed)
