"""That no latent is clipped, by any scheduler of diffusers, and that none that cannot work goes unnoticed."""

import inspect
import json
import logging
from pathlib import Path

import diffusers
import pytest
import torch
from torch.testing import assert_close

from fairbench.errors import Notice, UserError
from fairbench.models.loading import load_model
from fairbench.models.samplers import sampler, unclipped
from fairbench.models.text_to_image import TextToImage
from fairbench.seeding import generators
from tests.tiny import BETAS, save_tiny, tiny_pipeline

KINDS = [getattr(diffusers, name) for name in dir(diffusers) if name.endswith("Scheduler")]
STEPS, GUIDANCE, PROMPTS, SEEDS = 4, 3.0, ["the face", "of a"], [3, 4]


def switches(kind):
    """Return what may make a scheduler clip, by name: also what a later diffusers calls so."""
    parameters = inspect.signature(kind.__init__).parameters.values()
    return [
        p.name for p in parameters if isinstance(p.default, bool) and ("clip" in p.name or "thresh" in p.name)
    ]


CLIPPING = [(kind, key) for kind in KINDS for key in switches(kind)]


def reached(scheduler, size):
    """Return where some latents of a given size end, with predictions of that size."""
    scheduler.set_timesteps(STEPS)
    latents = torch.linspace(-1, 1, 8).reshape(1, 2, 2, 2).to(torch.float64) * size
    for timestep in scheduler.timesteps:
        scheduler.scale_model_input(latents, timestep)
        torch.manual_seed(0)
        prediction = latents.flip(1)
        latents = scheduler.step(prediction, timestep, latents, return_dict=False)[0]
    return latents


@pytest.mark.parametrize(("kind", "key"), CLIPPING, ids=lambda value: getattr(value, "__name__", value))
def test_a_sampler_of_latents_is_linear_where_it_would_clip(kind, key, caplog):
    """Ten times the latents, predictions and noise are ten times the picture, unless something is clipped."""
    caplog.set_level(logging.CRITICAL)
    try:
        asking = kind(**{key: True})
        sampler(asking, STEPS)
    except (UserError, ImportError, TypeError, ValueError):
        pytest.skip("samples no latents, or needs another package")
    # the noise of a stochastic sampler is not ten times as large: take it out
    difference = [
        (reached(unclipped(asking), size) - reached(unclipped(asking), 0)) / size for size in (1.0, 100.0)
    ]
    assert_close(*difference, rtol=1e-3, atol=1e-3)
    assert not unclipped(asking).config[key] and asking.config[key]


def test_among_them_are_those_that_are_used_most():
    named = {(kind.__name__, key) for kind, key in CLIPPING}
    assert {("DDIMScheduler", "clip_sample"), ("DPMSolverMultistepScheduler", "thresholding")} <= named
    assert len(named) > 20
    clipped = diffusers.DDIMScheduler(clip_sample=True)
    assert (reached(clipped, 100.0) / 100 - reached(clipped, 1.0)).abs().max() > 0.1  # the test can fail


def by_hand(model, name, timesteps, last):
    """Return the final latents by the equations of DDIM and DDPM, of the U-Net alone, with its guidance."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    kept = (1 - betas).cumprod(0)
    sources, unet = generators(SEEDS), model.pipeline.unet
    draw = lambda: torch.stack([torch.randn(4, 8, 8, generator=source) for source in sources])  # noqa: E731
    conditioning, latents = model.encode(PROMPTS), draw()
    for now, then in zip(timesteps, [*timesteps[1:], -1], strict=True):
        alone, told = (
            unet(latents, now, part).sample for part in (conditioning.unconditional, conditioning.conditional)
        )
        noise = alone + GUIDANCE * (told - alone)
        before = now - 1000 // STEPS if name == "ddim" else then  # as diffusers has it
        level, later = kept[now], kept[before] if before >= 0 else last(kept)
        clean = (latents - (1 - level).sqrt() * noise) / level.sqrt()
        if name == "ddim":
            latents = later.sqrt() * clean + (1 - later).sqrt() * noise
        else:  # the posterior of q(x_s | x_t, x_0)
            ratio = level / later
            latents = later.sqrt() * (1 - ratio) / (1 - level) * clean + (
                ratio.sqrt() * (1 - later) / (1 - level) * latents
            )
            if before >= 0:
                latents = latents + ((1 - later) / (1 - level) * (1 - ratio)).sqrt() * draw()
        latents = latents.float()
    return latents


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


LEADING, LINSPACE = [751, 501, 251, 1], [999, 666, 333, 0]


@pytest.mark.parametrize(
    ("comes_with", "asked", "timesteps", "last"),
    [
        ("ddim", None, LEADING, lambda kept: kept[0]),  # it asks for clipping
        ("ddim", "ddim", LEADING, lambda kept: kept[0]),
        ("ddim", "ddpm", LEADING, lambda kept: torch.ones(())),
        ("dpm", "ddim", LINSPACE, lambda kept: torch.ones(())),  # it has no such setting
        ("dpm", "ddpm", LINSPACE, lambda kept: torch.ones(())),
    ],
)
@torch.no_grad()
def test_latents_are_not_confined_to_the_range_of_pixels(tmp_path, comes_with, asked, timesteps, last):
    directory = save_tiny(tmp_path / "model", comes_with)
    if comes_with == "ddim":
        edit(directory / "scheduler" / "scheduler_config.json", clip_sample=True)
    model = load_model(str(directory), device="cpu", scheduler=asked)
    expected = by_hand(model, asked or "ddim", timesteps, last)
    found = model.rollout(model.encode(PROMPTS), SEEDS, steps=STEPS, guidance=GUIDANCE).final
    assert expected.abs().max() > 1.5  # clipping would show
    assert_close(found, expected, rtol=1e-3, atol=1e-3)


def test_what_a_scheduler_asks_for_and_does_not_get_is_said_in_a_line(tmp_path):
    directory = save_tiny(tmp_path / "model", "dpm")
    edit(directory / "scheduler" / "scheduler_config.json", thresholding=True)
    with pytest.warns(Notice, match="asks for thresholding, which is for pixels: no latent is clipped"):
        model = load_model(str(directory), device="cpu")
    plain = TextToImage(tiny_pipeline("dpm"), "tiny")
    options = {"steps": STEPS, "guidance": GUIDANCE}
    assert torch.equal(model.generate(PROMPTS, SEEDS, **options), plain.generate(PROMPTS, SEEDS, **options))


ZERO = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}


@pytest.mark.parametrize(
    ("scheduler", "steps", "message"),
    [
        (diffusers.DDIMScheduler(**BETAS, **ZERO), 5, "DDIM.* with rescale_betas_zero_snr .*v_prediction"),
        (diffusers.EulerDiscreteScheduler(**BETAS, **ZERO), 5, "with rescale_betas_zero_snr .*v_prediction"),
        (diffusers.UniPCMultistepScheduler(**BETAS, solver_type="bh1"), 5, "UniPC.* divides by zero"),
        (diffusers.DDPMScheduler(**BETAS, variance_type="learned_range"), 5, "DDPM.* cannot take 5 steps"),
        (diffusers.UnCLIPScheduler(), 1, "UnCLIPScheduler cannot take 1 steps here"),
        (diffusers.PNDMScheduler(**BETAS), 3, "PNDMScheduler cannot take 3 steps here"),
        (diffusers.KarrasVeScheduler(), 3, "KarrasVeScheduler has no training timesteps"),
        (diffusers.FlowMatchEulerDiscreteScheduler(), 3, "FlowMatch.* cannot take 3 steps here"),
        (diffusers.DDIMScheduler(**BETAS), 1001, "from 1 to 1000, not 1001"),
    ],
    ids=lambda value: getattr(type(value), "__name__", "") if not isinstance(value, int | str) else "",
)  # fmt: skip
def test_a_sampler_that_cannot_work_is_one_line(scheduler, steps, message):
    pipeline = tiny_pipeline()
    pipeline.scheduler = scheduler
    with pytest.raises(UserError, match=message) as caught:
        TextToImage(pipeline, "tiny").check(PROMPTS, steps)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("changes", [{"prediction_type": "v_prediction"}, {"timestep_spacing": "leading"}])
def test_without_any_signal_at_the_start_one_can_sample_in_two_ways(changes):
    pipeline = tiny_pipeline()
    pipeline.scheduler = diffusers.DDIMScheduler(**BETAS, clip_sample=False, **ZERO | changes)
    assert TextToImage(pipeline, "tiny").generate(PROMPTS, SEEDS, steps=STEPS).isfinite().all()


def test_trying_a_sampler_out_draws_nothing():
    torch.manual_seed(0)
    sampler(diffusers.DDPMScheduler(**BETAS, num_train_timesteps=997), STEPS)
    found = torch.rand(1)
    torch.manual_seed(0)
    assert torch.equal(found, torch.rand(1))
