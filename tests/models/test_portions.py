import pytest
import torch

from fairbench.errors import CostWarning, UserError
from fairbench.models import portions
from fairbench.models.portions import Portions
from fairbench.models.text_to_image import Defaults, TextToImage
from tests.models.memories import Card, OutOfMemory
from tests.tiny import tiny_pipeline

PROMPTS, SEEDS = [f"face {k}" for k in range(7)], list(range(7))


@pytest.fixture
def model():
    return TextToImage(tiny_pipeline(), "tiny", Defaults(steps=2, guidance=3.0))


def usual(portions):
    return [portions.sampled.usual, portions.decoded.usual]


def limited(model, monkeypatch, **most):
    """Let a stage of the model run out of memory with more than so many images."""
    for stage, limit in most.items():
        inner = getattr(model, stage)

        def call(latents, *args, inner=inner, limit=limit, **kwargs):
            if len(latents) > limit:
                raise OutOfMemory
            return inner(latents, *args, **kwargs)

        monkeypatch.setattr(model, stage, call)


def test_on_a_cpu_it_is_a_matter_of_size(model):
    for side, *sizes in ((8, 16, 256), (32, 16, 16), (64, 4, 4), (256, 1, 1)):
        model.pipeline.unet.register_to_config(sample_size=side)
        assert usual(Portions.of(model)) == sizes


def test_on_a_card_it_is_what_fits_and_trying_out_is_not_counted(model, monkeypatch):
    before = model.unet_rows
    monkeypatch.setattr(portions, "MOST", 32)
    assert usual(Portions.of(model, Card(10**9))) == [32, 32]
    limited(model, monkeypatch, predict_noise=30, decode=5)
    assert usual(Portions.of(model, Card(10**9))) == [16, 4]  # halved until it fits
    assert model.unet_rows == before


@pytest.mark.parametrize("limits", [{"predict_noise": 3}, {"decode": 2}, {"predict_noise": 2, "decode": 1}])
def test_where_memory_runs_out_fewer_are_made_at_once_and_the_pictures_stay(model, monkeypatch, limits):
    whole = model.generate(PROMPTS, SEEDS)
    limited(model, monkeypatch, **limits)
    done = []
    with pytest.warns(CostWarning, match="memory ran out: images are (sampled|decoded) . at a time"):
        parts = model.generate(PROMPTS, SEEDS, on_batch=lambda *now: done.append(now))
    torch.testing.assert_close(parts, whole, atol=1e-5, rtol=0)
    assert done[-1] == (7, 7) and done == sorted(done)
    assert model.images_at_once <= limits.get("predict_noise", 16)
    assert min(model.portions.decoded.limit, model.images_at_once) <= limits.get("decode", 256)


@pytest.mark.filterwarnings("error")
def test_what_was_learnt_once_is_not_learnt_again(model, monkeypatch):
    limited(model, monkeypatch, predict_noise=3, decode=2)
    with pytest.warns(CostWarning):
        first = model.generate(PROMPTS, SEEDS)
    assert torch.equal(model.generate(PROMPTS, SEEDS), first)  # without a warning
    assert torch.equal(model.generate(PROMPTS, SEEDS, batch_size=7), first)


@pytest.mark.filterwarnings("ignore::fairbench.errors.CostWarning")
@pytest.mark.parametrize(("stage", "done"), [("predict_noise", "sampled"), ("decode", "decoded")])
def test_a_card_too_small_for_one_image_is_one_line(model, monkeypatch, stage, done):
    limited(model, monkeypatch, **{stage: 0})
    with pytest.raises(UserError, match=f"cpu has too little free memory for one image to be {done}"):
        model.generate(PROMPTS, SEEDS)


@pytest.mark.filterwarnings("ignore::fairbench.errors.CostWarning")
def test_a_large_image_that_does_not_fit_is_decoded_in_tiles(model, monkeypatch):
    vae = model.pipeline.vae
    whole = model.generate(PROMPTS, SEEDS)
    inner = model.decode

    def decode(latents):
        if not vae.use_tiling:
            raise OutOfMemory
        return inner(latents)

    monkeypatch.setattr(model, "decode", decode)
    monkeypatch.setattr(portions, "TILED_ABOVE", 63)
    with pytest.raises(UserError, match="too little free memory"):  # a tile is as large as the image
        model.generate(PROMPTS, SEEDS)
    vae.tile_sample_min_size, vae.tile_latent_min_size = 32, 4
    with pytest.warns(CostWarning, match="images are decoded in tiles from now on"):
        tiled = model.generate(PROMPTS, SEEDS)
    assert tiled.shape == whole.shape and 0 < (tiled - whole).abs().mean() < 0.1
