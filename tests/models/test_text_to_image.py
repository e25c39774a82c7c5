"""The opened-up loop against the stock pipeline, its laws, and every point at which a method can step in."""

from dataclasses import replace
from functools import cache

import diffusers
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from fairbench.errors import UserError
from fairbench.models.hooks import Conditioning, Hooks
from fairbench.models.text_to_image import Defaults, TextToImage
from fairbench.seeding import generators
from tests.tiny import BETAS, tiny_pipeline

PROMPTS = ["a face of the cat", "the face", "a face of the cat", "of a dog"]
SEEDS = [11, 22, 33, 2**63 - 1]
SAMPLERS = {
    "ddim": lambda: diffusers.DDIMScheduler(
        **BETAS, clip_sample=False, set_alpha_to_one=False, steps_offset=1
    ),
    "dpmsolver++2m": lambda: diffusers.DPMSolverMultistepScheduler(**BETAS),
    "dpmsolver++2m-sde": lambda: diffusers.DPMSolverMultistepScheduler(
        **BETAS, algorithm_type="sde-dpmsolver++"
    ),
    "euler": lambda: diffusers.EulerDiscreteScheduler(**BETAS),
    "euler-ancestral": lambda: diffusers.EulerAncestralDiscreteScheduler(**BETAS),
    "heun": lambda: diffusers.HeunDiscreteScheduler(**BETAS),
    "ddpm": lambda: diffusers.DDPMScheduler(**BETAS, clip_sample=False),
    "pndm": lambda: diffusers.PNDMScheduler(**BETAS, skip_prk_steps=True),
    "unipc": lambda: diffusers.UniPCMultistepScheduler(**BETAS),
}


@cache
def make(sampler: str = "ddim") -> TextToImage:
    pipeline = tiny_pipeline()
    pipeline.scheduler = SAMPLERS[sampler]()
    pipeline.set_progress_bar_config(disable=True)
    return TextToImage(pipeline, "tiny", Defaults(steps=4, guidance=3.0))


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_sampling_equals_the_stock_pipeline(sampler: str, guidance: float) -> None:
    model = make(sampler)
    stock = model.pipeline(
        PROMPTS,
        num_inference_steps=5,
        guidance_scale=guidance,
        generator=generators(SEEDS),
        output_type="pt",
    ).images
    assert_close(
        model.generate(PROMPTS, SEEDS, steps=5, guidance=guidance), stock.contiguous(), atol=2e-5, rtol=0
    )


def test_encoding_equals_the_stock_pipeline() -> None:
    model = make()
    conditional, unconditional = model.pipeline.encode_prompt(PROMPTS, model.device, 1, True)
    ours = model.encode(PROMPTS)
    assert_close(ours.conditional, conditional)
    assert_close(ours.unconditional, unconditional)


def test_a_repeated_prompt_is_encoded_once() -> None:
    model, rows = make(), []
    hook = model.pipeline.text_encoder.register_forward_hook(
        lambda module, args, output: rows.append(len(output[0]))
    )
    model.encode(["a face"] * 9 + ["the face"])
    hook.remove()
    assert rows == [3]  # two distinct ones and the empty prompt


def test_a_prompt_that_is_too_long_is_refused_before_its_end_is_lost() -> None:
    make().encode(["a " * 14])
    with pytest.raises(UserError, match=r"has 17 tokens and tiny takes 16"):
        make().encode(["a face", "a " * 15])


def test_noise_is_the_first_draw_of_each_seed() -> None:
    expected = [torch.randn(4, 8, 8, generator=torch.Generator().manual_seed(seed)) for seed in SEEDS]
    assert_close(make().noise(SEEDS), torch.stack(expected), rtol=0, atol=0)


@pytest.mark.parametrize("sampler", ["dpmsolver++2m", "ddpm"])
@pytest.mark.parametrize("batch_size", [1, 7, 16])
def test_the_batch_size_does_not_matter(sampler: str, batch_size: int) -> None:
    prompts, seeds = [PROMPTS[index % 4] for index in range(18)], list(range(18))
    together = make(sampler).generate(prompts, seeds, batch_size=18)
    apart = make(sampler).generate(prompts, seeds, batch_size=batch_size)
    assert (together - apart).abs().max() < 1e-4  # 1/255 is 4e-3


@settings(max_examples=8)
@given(order=st.permutations(range(4)), batch_size=st.integers(1, 5))
def test_a_picture_depends_on_its_prompt_and_seed_alone(order: list[int], batch_size: int) -> None:
    model = make("dpmsolver++2m-sde")
    expected = model.generate(PROMPTS, SEEDS)
    shuffled = model.generate(
        [PROMPTS[index] for index in order], [SEEDS[index] for index in order], batch_size=batch_size
    )
    assert (shuffled - expected[order]).abs().max() < 1e-4


def test_pictures_differ_between_seeds_and_between_prompts() -> None:
    same_prompt = make().generate(["a face"] * 2, [1, 2])
    same_seed = make().generate(["a face", "the dog"], [1, 1])
    assert (same_prompt[0] - same_prompt[1]).abs().mean() > 0.01
    assert (same_seed[0] - same_seed[1]).abs().mean() > 0.001


def test_generate_returns_ordinary_pictures_and_reports_its_batches() -> None:
    done = []
    pictures = make().generate(PROMPTS, SEEDS, batch_size=3, on_batch=lambda *count: done.append(count))
    assert pictures.shape == (4, 3, 64, 64) and pictures.dtype == torch.float32
    assert pictures.min() >= 0 and pictures.max() <= 1
    assert done == [(3, 4), (4, 4)]
    assert not pictures.is_inference()  # may be used in training


def test_the_models_defaults_are_used() -> None:
    model = make()
    assert_close(
        model.generate(PROMPTS, SEEDS), model.generate(PROMPTS, SEEDS, steps=4, guidance=3.0), rtol=0, atol=0
    )


@pytest.mark.parametrize("steps", [0, -3, 1001])
def test_impossible_steps_are_refused(steps: int) -> None:
    with pytest.raises(UserError, match=f"from 1 to 1000, not {steps}"):
        make().generate(PROMPTS, SEEDS, steps=steps)


def test_prompts_and_seeds_must_pair() -> None:
    with pytest.raises(ValueError, match="not 2 and 1"):
        make().generate(["a face", "a cat"], [1])


@pytest.mark.parametrize("sampler", ["ddim", "dpmsolver++2m", "euler"])
def test_the_pipeline_is_left_as_it_was(sampler: str) -> None:
    scheduler = make(sampler).pipeline.scheduler
    before = {key: repr(value) for key, value in vars(scheduler).items()}
    make(sampler).generate(PROMPTS[:1], SEEDS[:1])
    assert make(sampler).pipeline.scheduler is scheduler
    assert {key: repr(value) for key, value in vars(scheduler).items()} == before
    assert not any(weight.requires_grad for weight in make(sampler).pipeline.unet.parameters())


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_kept_trajectory_can_be_revisited_in_any_rows(sampler: str) -> None:
    """All (step, image) rows in one U-Net pass give the noise predictions that were made on the way."""
    model, seen, progress = make(sampler), [], []

    def spy(unconditional, conditional, guidance, step, latents):
        seen.append((step, unconditional + guidance * (conditional - unconditional)))
        return seen[-1][1]

    with torch.no_grad():
        conditioning = model.encode(PROMPTS)
        trajectory = model.rollout(
            conditioning, SEEDS, steps=4, guidance=3.0, hooks=Hooks(combine=spy), keep=True,
            progress=lambda *count: progress.append(count),
        )  # fmt: skip
        count = len(trajectory.timesteps)
        assert len(trajectory.latents) == len(trajectory.scales) == len(seen) == count
        again = model.predict_noise(
            torch.cat(trajectory.latents),
            trajectory.timesteps.repeat_interleave(4),
            Conditioning(
                conditioning.conditional.repeat(count, 1, 1), conditioning.unconditional.repeat(count, 1, 1)
            ),
            3.0,
            scale=trajectory.scales.repeat_interleave(4),
        )
    assert_close(again, torch.cat([noise for _, noise in seen]), atol=1e-5, rtol=1e-4)
    assert [step.index for step, _ in seen] == list(range(count))
    assert seen[0][0].seeds == tuple(SEEDS)
    assert progress == [(index + 1, count) for index in range(count)]
    unit = trajectory.latents[0] / SAMPLERS[sampler]().init_noise_sigma
    if sampler not in (
        "euler",
        "euler-ancestral",
        "heun",
    ):  # their first sigma is known only once the steps are set
        assert_close(unit, model.noise(SEEDS))


def test_latents_are_kept_only_on_request() -> None:
    model = make()
    with torch.no_grad():
        assert model.rollout(model.encode(["a"]), [1], steps=2, guidance=3.0).latents is None


def test_guidance_of_one_costs_one_row_per_image() -> None:
    model, rows = make(), []
    hooks = Hooks(modules={"conv_in": lambda output, step: rows.append(len(output)) or output})
    counter = model.pipeline.unet.register_forward_hook(
        lambda module, args, output: rows.append(len(output[0]))
    )
    with torch.no_grad():
        conditioning = model.encode(PROMPTS)
        latents, timestep = model.noise(SEEDS), torch.tensor(500)
        plain = model.predict_noise(latents, timestep, conditioning, 1.0)
        hooked = model.predict_noise(latents, timestep, conditioning, 1.0, hooks)
    counter.remove()
    assert rows == [4, 8, 8]  # hooks can rely on 2N rows
    assert_close(plain, hooked, atol=1e-5, rtol=1e-4)


def test_decoding_is_straight_and_differentiable() -> None:
    model = make()
    latents = (100 * model.noise(SEEDS)).requires_grad_()
    picture = model.decode(latents)
    with torch.no_grad():
        expected = (
            model.pipeline.vae.decode(latents / model.pipeline.vae.config.scaling_factor).sample / 2 + 0.5
        )
    assert_close(picture, expected)
    assert picture.min() < 0 or picture.max() > 1
    (gradient,) = torch.autograd.grad(picture.clamp(max=picture.min().item()).sum() + picture.sum(), latents)
    assert gradient.abs().flatten(1).sum(1).min() > 0


def test_gradients_flow_from_the_picture_to_the_embeddings() -> None:
    """A finite difference of the whole chain, from embeddings to a pixel sum."""
    model = make()
    with torch.no_grad():
        base = model.encode(["a face"])
    direction = torch.randn(base.conditional.shape, generator=torch.Generator().manual_seed(0))

    def brightness(shift: torch.Tensor) -> torch.Tensor:
        moved = Conditioning(base.conditional + shift * direction, base.unconditional)
        return model.decode(model.rollout(moved, [5], steps=3, guidance=3.0).final).mean()

    shift = torch.zeros((), requires_grad=True)
    (slope,) = torch.autograd.grad(brightness(shift), shift)
    with torch.no_grad():
        step = torch.tensor(2e-2)
        secant = (brightness(step) - brightness(-step)) / (2 * step)
    assert slope.item() == pytest.approx(secant.item(), rel=0.05, abs=1e-5)
    assert slope.abs() > 1e-5


def test_rewrite_sees_prompts_and_seeds() -> None:
    given_to_hook = []

    def rewrite(prompts, seeds):
        given_to_hook.append((list(prompts), list(seeds)))
        return ["the dog" for _ in prompts]

    rewritten = make().generate(PROMPTS, SEEDS, hooks=Hooks(rewrite=rewrite))
    assert given_to_hook == [(PROMPTS, SEEDS)]
    assert_close(rewritten, make().generate(["the dog"] * 4, SEEDS))


def test_embed_replaces_the_embeddings() -> None:
    given_to_hook = []

    def embed(conditioning, prompts, seeds):
        given_to_hook.append((list(prompts), list(seeds)))
        return Conditioning(conditioning.unconditional, conditioning.unconditional)

    empty = Hooks(embed=embed)
    assert_close(
        make().generate(PROMPTS, SEEDS, hooks=empty), make().generate([""] * 4, SEEDS), atol=1e-5, rtol=0
    )
    assert given_to_hook == [(PROMPTS, SEEDS)]


@pytest.mark.parametrize(("share", "steps"), [(0, [1, 1, 1, 1]), (0.5, [0, 0, 1, 1]), (1, [0, 0, 0, 0])])
def test_later_embeddings_take_over_after_their_share_of_the_steps(share, steps) -> None:
    model = make()
    other = model.encode(["the dog"] * 4).conditional

    def embed(conditioning, prompts, seeds):
        return replace(conditioning, later=(share, other))

    later = Conditioning(torch.zeros(1), torch.zeros(1), later=(share, torch.ones(1)))
    assert [int(later.at(index, 4).conditional) for index in range(4)] == steps
    switched = model.generate(PROMPTS, SEEDS, hooks=Hooks(embed=embed))
    ends = {0: ["the dog"] * 4, 1: PROMPTS}
    if share in ends:
        assert_close(switched, model.generate(ends[share], SEEDS))
    else:
        assert not any(torch.allclose(switched, model.generate(texts, SEEDS)) for texts in ends.values())


def test_module_hooks_see_every_step_and_are_taken_off_again() -> None:
    model, steps = make(), []

    def shift(output, step):
        steps.append(step.index)
        unconditional, conditional = output.chunk(2)
        return torch.cat([unconditional, conditional + 1.0])

    plain = model.generate(PROMPTS, SEEDS)
    shifted = model.generate(PROMPTS, SEEDS, hooks=Hooks(modules={"mid_block": shift}))
    assert steps == [0, 1, 2, 3]
    assert (shifted - plain).abs().max() > 1e-3
    assert_close(model.generate(PROMPTS, SEEDS), plain, rtol=0, atol=0)
    assert not any(module._forward_hooks for module in model.pipeline.unet.modules())


def test_an_unknown_module_is_named_with_its_nearest() -> None:
    hooks = Hooks(modules={"mid_blok": lambda output, step: output})
    with pytest.raises(UserError, match=r"unknown U-Net module 'mid_blok': did you mean 'mid_block'\?"):
        make().generate(PROMPTS, SEEDS, hooks=hooks)


def test_combine_replaces_guidance() -> None:
    conditional_only = Hooks(combine=lambda unconditional, conditional, guidance, step, latents: conditional)
    assert_close(
        make().generate(PROMPTS, SEEDS, hooks=conditional_only),
        make().generate(PROMPTS, SEEDS, guidance=1.0),
        atol=1e-5,
        rtol=0,
    )
