"""Each method's rule against autograd with explicit stop-gradients, and what is random in it."""

import diffusers
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fairbench.errors import UserError
from fairbench.finetuning.gradient import kept_steps, rule_gradient
from fairbench.finetuning.rules import GradientRule, Sampler, views
from fairbench.methods.alignprop import AlignProp
from fairbench.methods.biased_dft import BiasedDFT
from fairbench.methods.draft_k import DraftK
from fairbench.methods.drtune import DRTune
from fairbench.methods.naive_dft import NaiveDFT
from fairbench.methods.refl import ReFL
from fairbench.models.text_to_image import TextToImage
from fairbench.seeding import image_seed
from tests.finetuning.one_graph import gathered, level_at, loss_of, one_graph, relative_error
from tests.tiny import BETAS, tiny_pipeline

STEPS, GUIDANCE, SEEDS = 5, 3.0, [1, 2]
TEXTS = ["face of a pilot", "face of a nurse"]
LAST = set(range(STEPS))


@pytest.fixture(params=["ddim", "dpm", "euler"])
def model(request):
    pipeline = tiny_pipeline("ddim" if request.param == "euler" else request.param)
    if request.param == "euler":  # the one whose U-Net sees scaled latents
        pipeline.scheduler = diffusers.EulerDiscreteScheduler(**BETAS)
    model = TextToImage(pipeline, "tiny")
    model.pipeline.text_encoder.requires_grad_(True)
    return model


def ours(model, rule, sampler, room=0):
    """Do what an update does, with a loss of our own, and room for the graphs of so many rows."""
    with torch.no_grad():
        conditioning = model.encode(TEXTS)
        until = None if rule.stop is None else rule.stop + 1
        trajectory = model.rollout(
            conditioning,
            SEEDS,
            steps=STEPS,
            guidance=GUIDANCE,
            keep=True,
            learn=kept_steps(rule, len(SEEDS), room),
            until=until,
        )
    for seen, latents in views(rule, sampler, model, trajectory, conditioning, SEEDS, GUIDANCE):
        leaf = latents.clone().requires_grad_()
        (cotangent,) = torch.autograd.grad(loss_of(leaf), leaf)
        cotangent = cotangent / max(1, rule.noisings)
        fresh = model.encode(TEXTS)
        rule_gradient(rule, model, seen, fresh, cotangent, sampler.gains, guidance=GUIDANCE, chunk=3)
    return gathered(model)


def rule_of(method, sampler, seed=0, **settings):
    generator = torch.Generator().manual_seed(seed)
    return method(method.Config(**settings)).rule(sampler, generator)


def expected(model, **steps):
    one_graph(model, TEXTS, SEEDS, STEPS, GUIDANCE, loss=loss_of, **steps)
    return gathered(model)


@pytest.mark.parametrize("room", [0, 100])
@pytest.mark.parametrize(
    ("method", "settings", "first"),
    [
        (NaiveDFT, {}, 0),
        (DraftK, {"last": 1}, STEPS - 1),
        (DraftK, {"last": 3}, STEPS - 3),
        (AlignProp, {"truncation": "fixed"}, STEPS - 1),
        (AlignProp, {"truncation": "uniform"}, None),
    ],
)
def test_truncated_rules_are_backpropagation_from_some_step_on(model, method, settings, first, room):
    sampler = Sampler.of(model.pipeline.scheduler, STEPS)
    rule = rule_of(method, sampler, **settings)
    if first is None:  # drawn once, for the whole update
        first = int(rule.weights.nonzero().min())
    learns = set(range(first, STEPS))
    truth = expected(model, learns=learns, attached=learns - {first})
    assert relative_error(ours(model, rule, sampler, room), truth) < 2e-4


@pytest.mark.parametrize("room", [0, 4, 100])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("method", "settings"), [(ReFL, {"late": 0.5}), (DRTune, {"trained": 2})])
def test_early_stopped_rules_are_backpropagation_from_the_predicted_image(
    model, method, settings, seed, room
):
    sampler = Sampler.of(model.pipeline.scheduler, STEPS)
    rule = rule_of(method, sampler, seed, **settings)
    learns = set(rule.weights.nonzero().flatten().tolist())
    truth = expected(model, learns=learns, attached=set(), stop=rule.stop)
    assert relative_error(ours(model, rule, sampler, room), truth) < 2e-4


@pytest.mark.parametrize("room", [0, 100])
def test_the_low_variance_variant_is_the_mean_over_fresh_noisings(model, room):
    sampler = Sampler.of(model.pipeline.scheduler, STEPS)
    rule = rule_of(DraftK, sampler, noisings=2)
    with torch.no_grad():
        final = model.rollout(model.encode(TEXTS), SEEDS, steps=STEPS, guidance=GUIDANCE).final
    timestep, scheduler = sampler.timesteps[-1], model.pipeline.scheduler
    scheduler.set_timesteps(STEPS)
    level = level_at(scheduler, STEPS - 1)
    total = 0.0
    for number in range(2):
        sources = [
            torch.Generator().manual_seed(image_seed("finetuning", "1", "noising", number, seed))
            for seed in SEEDS
        ]
        noise = torch.stack([torch.randn(final.shape[1:], generator=source) for source in sources])
        noised = level.sqrt() * final + (1 - level).sqrt() * noise
        predicted = model.predict_noise(noised, timestep, model.encode(TEXTS), GUIDANCE)
        total = total + loss_of((noised - (1 - level).sqrt() * predicted) / level.sqrt()) / 2
    total.backward()
    truth = gathered(model)
    assert relative_error(ours(model, rule, sampler, room), truth) < 2e-4


@pytest.mark.parametrize("name", ["DDIMScheduler", "EulerDiscreteScheduler", "DDPMScheduler"])
def test_the_predicted_image_is_the_one_the_scheduler_predicts(name):
    options = {"clip_sample": False} if name != "EulerDiscreteScheduler" else {}
    scheduler = getattr(diffusers, name)(**BETAS, **options)
    sampler = Sampler.of(scheduler, 7)
    scheduler.set_timesteps(7)
    latents = torch.randn(1, 4, 2, 2, generator=torch.Generator().manual_seed(0)) * scheduler.init_noise_sigma
    for step, timestep in enumerate(scheduler.timesteps):
        scheduler.scale_model_input(latents, timestep)
        noise = latents.cos()
        after = scheduler.step(noise, timestep, latents)
        predicted = sampler.predicted(step, latents, noise)
        torch.testing.assert_close(predicted, after.pred_original_sample, rtol=1e-3, atol=1e-3)
        latents = after.prev_sample


@given(steps=st.integers(1, 40), seed=st.integers(0, 2**32))
def test_random_steps_stay_where_they_belong(steps, seed):
    sampler = Sampler.of(diffusers.DDIMScheduler(**BETAS, clip_sample=False), steps)
    refl, prop = rule_of(ReFL, sampler, seed), rule_of(AlignProp, sampler, seed)
    assert refl.weights.nonzero().flatten().tolist() == [refl.stop]
    assert int(0.75 * steps) <= refl.stop < steps and not refl.attached.any()
    learning = torch.zeros(steps, dtype=torch.bool)
    first = int(prop.weights.nonzero().min())
    learning[first:] = True
    assert torch.equal(prop.weights != 0, learning)
    assert prop.attached.sum() == steps - first - 1 and not prop.attached[: first + 1].any()
    if steps >= 5:
        tuned = rule_of(DRTune, sampler, seed)
        chosen = tuned.weights.nonzero().flatten()
        assert len(chosen) == 3 and chosen.max() <= tuned.stop and int(0.6 * steps) <= tuned.stop < steps
        assert (chosen.diff() == chosen.diff()[0]).all()


@pytest.mark.parametrize("trained", [2, 3])
def test_drtune_spreads_its_steps_evenly_from_any_offset(trained):
    sampler, seen = Sampler.of(diffusers.DDIMScheduler(**BETAS, clip_sample=False), 10), {}
    for seed in range(300):
        rule = rule_of(DRTune, sampler, seed, trained=trained)
        chosen = rule.weights.nonzero().flatten().tolist()
        seen.setdefault(rule.stop, set()).add(tuple(chosen))
        assert torch.equal(rule.weights[chosen], sampler.onto(rule.stop)[chosen])
    every = {
        stop: {
            tuple(range(offset, offset + trained * ((stop + 1) // trained), (stop + 1) // trained))
            for offset in range((stop + 1) // trained)
        }
        for stop in range(6, 10)
    }
    assert seen == every


def test_a_truncation_is_drawn_about_where_its_authors_cut():
    sampler = Sampler.of(diffusers.DDIMScheduler(**BETAS, clip_sample=False), 50)
    starts = [int(rule_of(AlignProp, sampler, seed).weights.nonzero().min()) for seed in range(400)]
    mean, deviation = torch.tensor(starts).double().mean(), torch.tensor(starts).double().std()
    assert abs(mean - 41.5) < 1 and abs(deviation - 5) < 0.7  # rounded down, hence half a step less


@pytest.mark.parametrize(
    ("method", "settings"),
    [(DraftK, {"last": 6}), (DRTune, {"trained": 5}), (DRTune, {"trained": 9})],
)
def test_more_steps_than_there_are_is_a_mistake(model, method, settings):
    sampler = Sampler.of(model.pipeline.scheduler, STEPS)
    with pytest.raises(UserError, match="give at most as many"):
        rule_of(method, sampler, **settings)


def test_steps_that_do_not_move_the_image_are_not_all_that_learns():
    """The last step of this sampler stays where it is."""
    scheduler = diffusers.DDIMScheduler(
        **BETAS, clip_sample=False, timestep_spacing="linspace", set_alpha_to_one=False
    )
    sampler = Sampler.of(scheduler, 10)
    with pytest.raises(UserError, match="the last 1 steps of DDIMScheduler do not move the image"):
        rule_of(DraftK, sampler)
    assert rule_of(DraftK, sampler, last=2).weights.count_nonzero() == 1
    for seed in range(20):
        assert rule_of(AlignProp, sampler, seed).weights.any()
    assert rule_of(BiasedDFT, sampler, timesteps_per_update=9).weights.count_nonzero() == 9
    with pytest.raises(UserError, match="only 9 denoising steps move the image"):
        rule_of(BiasedDFT, sampler, timesteps_per_update=10)


def test_all_steps_from_the_last_are_the_whole_chain():
    sampler = Sampler.of(diffusers.DDIMScheduler(**BETAS, clip_sample=False), 4)
    rule = GradientRule.last(sampler, 4)
    assert torch.equal(rule.weights, sampler.gains[-1]) and rule.attached.tolist() == [
        False,
        True,
        True,
        True,
    ]
