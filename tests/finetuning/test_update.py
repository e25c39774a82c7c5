"""An update as it is, against autograd through one graph of everything, and the pictures it compares with."""

import pytest
import torch

from fairbench.finetuning.adapters import adapter
from fairbench.finetuning.gains import direct_path_gains, step_weights
from fairbench.finetuning.processes import Processes
from fairbench.finetuning.update import Update
from fairbench.methods.biased_dft import BiasedDFT
from fairbench.methods.draft_k import DraftK
from fairbench.methods.drtune import DRTune
from fairbench.methods.naive_dft import NaiveDFT
from fairbench.methods.refl import ReFL
from fairbench.models.content import content_sha256
from fairbench.seeding import image_seed
from tests.finetuning.one_graph import level_at, one_graph, relative_error
from tests.finetuning.stand_ins import Coarse, make_context, tiny_model

STEPS, GUIDANCE = 4, 2.0
SMALL = {
    "prompts_per_update": 2,
    "images_per_prompt": 4,
    "noises_per_prompt": 4,
    "steps": STEPS,
    "guidance": GUIDANCE,
}


@pytest.fixture
def begun(tmp_path, monkeypatch):
    """Begins a training: the update, and what it trains, away from where it starts."""
    monkeypatch.setenv("FAIRBENCH_CACHE", "off")
    contexts = []

    def begin(method, tune="text_encoder", **settings):
        model = tiny_model()
        made = method(method.Config(**SMALL, tune=tune, **settings)).on(model)
        context = make_context(tmp_path, model)
        entered = adapter(model, tune, None if tune == "prefix" else 3, seed=0)
        tuned = entered.__enter__()
        contexts.append(entered)
        for number, parameter in enumerate(tuned.parameters.values()):
            generator = torch.Generator().manual_seed(number)
            parameter.data = torch.randn(parameter.shape, generator=generator) / 3
        content = content_sha256(model)
        return Update.of(context, made.config, made.rule, tuned, Processes(), content), tuned, context

    yield begin
    for entered in contexts:
        entered.__exit__(None, None, None)


def gradients(tuned):
    """Return and clear what has arrived."""
    vector = torch.cat([p.grad.flatten() for p in tuned.parameters.values()])
    for parameter in tuned.parameters.values():
        parameter.grad = None
    return vector


def surrogate(update, batch):
    """Return a loss of latents with the gradient of the objective, which has tests of its own."""

    def loss(latents):
        return (latents * update.objective(latents.detach(), batch)[0]).sum()

    return loss


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        (NaiveDFT, {}),
        (BiasedDFT, {"mode": "raw", "timesteps_per_update": None}),
        (DraftK, {"last": 2}),
        (ReFL, {"late": 0.75}),
        (DRTune, {"trained": 2}),
    ],
)
def test_an_update_is_backpropagation_through_everything(begun, method, settings):
    update, tuned, context = begun(method, **settings)
    model = context.model
    for number in range(20):  # one that stops before the end, if any does
        batch = update.batches[number]
        rule = update.rule(update.sampler, batch.generator)
        if rule.stop != STEPS - 1:
            break
    learns = set(rule.weights.nonzero().flatten().tolist())
    attached = set(rule.attached.nonzero().flatten().tolist())
    before = model.unet_rows
    update(number)
    if rule.stop is not None:  # it is not sampled any further
        assert model.unet_rows - before <= 2 * len(batch.seeds) * (rule.stop + 1)
    found = gradients(tuned)
    one_graph(
        model,
        batch.texts,
        batch.seeds,
        STEPS,
        GUIDANCE,
        learns=learns,
        attached=attached,
        stop=rule.stop,
        loss=surrogate(update, batch),
    )
    assert relative_error(found, gradients(tuned)) < 2e-4


def test_an_update_of_fresh_noisings_is_their_mean(begun):
    update, tuned, context = begun(DraftK, noisings=3)
    batch, model, scheduler = update.batches[0], context.model, context.model.pipeline.scheduler
    update(0)
    found = gradients(tuned)
    encoded = model.encode(batch.texts)
    with torch.no_grad():
        final = model.rollout(encoded, batch.seeds, steps=STEPS, guidance=GUIDANCE).final
    scheduler.set_timesteps(STEPS)
    level, timestep, loss = level_at(scheduler, STEPS - 1), scheduler.timesteps[-1], surrogate(update, batch)
    for number in range(3):
        noise = torch.stack(
            [
                torch.randn(
                    final.shape[1:],
                    generator=torch.Generator().manual_seed(
                        image_seed("finetuning", "1", "noising", number, seed)
                    ),
                )
                for seed in batch.seeds
            ]
        )
        noised = level.sqrt() * final + (1 - level).sqrt() * noise
        predicted = model.predict_noise(noised, timestep, model.encode(batch.texts), GUIDANCE)
        (loss((noised - (1 - level).sqrt() * predicted) / level.sqrt()) / 3).backward()
    assert relative_error(found, gradients(tuned)) < 2e-4


@pytest.mark.parametrize("tune", ["text_encoder", "unet", "prefix"])
def test_originals_are_the_untouched_models_sampled_as_the_training_samples(begun, tune):
    update, _, context = begun(BiasedDFT, tune)
    batch = update.batches[0]
    assert (context.model.defaults.steps, context.model.defaults.guidance) != (STEPS, GUIDANCE)
    seen = update.objective.originals.look_up(batch.pictures, context.model.device)["features/coarse"]
    plain = tiny_model().generate(batch.texts, batch.seeds, steps=STEPS, guidance=GUIDANCE)
    torch.testing.assert_close(seen, Coarse()(plain), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mode", ["standardised", "raw", "official"])
def test_the_mode_decides_what_every_step_adds(begun, mode):
    """At one place, the terms of two modes are to each other as their weights."""
    update, _, context = begun(BiasedDFT, mode=mode, timesteps_per_update=None)
    plain, _, _ = begun(BiasedDFT, mode="raw", timesteps_per_update=None)
    found, raw = (torch.tensor(each(0)["step_norms"]).double() for each in (update, plain))
    scheduler = context.model.pipeline.scheduler
    timesteps, gains = direct_path_gains(scheduler, STEPS)
    kept = scheduler.alphas_cumprod[timesteps].double()
    steady = (kept * (1 - kept)).sqrt() / scheduler.betas[timesteps].double()
    expected = {
        "raw": gains,
        "standardised": torch.full_like(gains, gains.abs().log().mean().exp()),
        "official": gains * steady / steady.log().mean().exp(),
    }[mode].abs()
    torch.testing.assert_close(found / raw, expected / gains.abs(), rtol=1e-4, atol=0)
    assert torch.equal(step_weights(timesteps, gains, "raw", scheduler), gains)
