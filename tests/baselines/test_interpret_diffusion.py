"""Vectors in the middle of the U-Net: where they are added, how they add up, and that training finds them."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch.testing import assert_close

from fairbench.attributes import AttributeSpace
from fairbench.baselines import interpret_diffusion
from fairbench.baselines.interpret_diffusion import InterpretDiffusion, shifted, shifts
from fairbench.editing.class_pictures import class_latents
from fairbench.finetuning import engine
from fairbench.intervention import Intervention
from fairbench.models.hooks import Hooks
from tests.finetuning.stand_ins import make_context, tiny_model

PROMPTS, SEEDS = ["face of a cook", "face"], [0, 1]


def test_only_the_conditional_rows_are_shifted():
    output, shift = torch.randn(6, 2, 3, 3), torch.randn(2, 2, 3, 3)
    ours = shifted(output, shift)
    assert_close(ours[:2], output[:2], rtol=0, atol=0)
    assert_close(ours[2:4], output[2:4] + shift)
    assert_close(ours[4:], output[4:], rtol=0, atol=0)


def test_the_vectors_of_the_classes_add_up_over_attributes():
    space = AttributeSpace(("gender", "race"))
    vectors = {"gender": torch.randn(2, 1, 2, 2), "race": torch.randn(4, 1, 2, 2)}
    ours = shifts(space, vectors, torch.arange(8))
    for k, label in enumerate(space.labels):
        gender, race = label.split()
        expected = vectors["gender"][space.classes["gender"].index(gender)]
        assert_close(ours[k], expected + vectors["race"][space.classes["race"].index(race)])


def test_the_unconditional_prediction_of_a_sampled_image_is_as_before():
    model = tiny_model()
    tensors = {"gender": torch.randn(2, 16, 4, 4)}
    intervention = Intervention(
        "interpret_diffusion", "drawn", tensors, {"attributes": ["gender"], "strength": 2.0}
    )
    method, seen = InterpretDiffusion(InterpretDiffusion.Config()), []

    def look(unconditional, conditional, guidance, step, latents):
        seen.append((unconditional, conditional))
        return unconditional

    with torch.no_grad(), method.apply(intervention, model, lambda seeds: np.array([0, 1])) as hooks:
        for modules in (hooks.modules, {}):
            model.rollout(
                model.encode(PROMPTS),
                SEEDS,
                steps=1,
                guidance=3.0,
                hooks=Hooks(modules=modules, combine=look),
            )
    (with_unconditional, with_conditional), (unconditional, conditional) = seen
    assert_close(with_unconditional, unconditional, rtol=0, atol=1e-5)
    assert (with_conditional - conditional).abs().flatten(1).max(1).values.min() > 1e-4


def test_learnt_vectors_predict_the_noise_of_their_own_class_best(tmp_path, monkeypatch):
    model = tiny_model()
    pictures = {k: (2.0 * k - 1) * torch.ones(8, 4, 8, 8) for k in range(2)}
    monkeypatch.setattr(interpret_diffusion, "class_latents", lambda context, space, k, count: pictures[k])
    method = InterpretDiffusion(InterpretDiffusion.Config(images_per_class=8, learning_rate=0.03))
    context = make_context(tmp_path, model, updates=60)
    before = {name: weight.clone() for name, weight in model.pipeline.unet.state_dict().items()}
    learnt = method.fit(context).tensors["gender"]
    assert all(torch.equal(weight, before[name]) for name, weight in model.pipeline.unet.state_dict().items())

    def loss(vectors):
        accumulate = method._update(context, torch.stack(list(pictures.values())), {"gender": vectors})
        return np.mean([accumulate(update)["loss"] for update in range(1000, 1004)])

    own, *others = (
        loss(vectors.clone().requires_grad_())
        for vectors in (learnt, learnt.flip(0), torch.zeros_like(learnt))
    )
    assert own < min(others)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_the_loss_is_that_of_the_prediction_for_the_neutral_prompt_of_each_picture(
    tmp_path, monkeypatch, kind
):
    """Picture i is of the number i, whatever its class, and of prompt i: so its noise can be told by hand."""
    model, seen = tiny_model(), []
    context, scheduler = make_context(tmp_path, model), model.pipeline.scheduler
    scheduler.register_to_config(prediction_type=kind)
    vectors = {"gender": torch.zeros(2, 16, 4, 4, requires_grad=True)}

    def predict(noised, timesteps, conditioning, guidance):
        seen.append((noised, timesteps, conditioning.conditional, guidance))
        return 0 * vectors["gender"].sum() + torch.zeros_like(noised)

    monkeypatch.setattr(model, "predict_noise", predict)
    latents = torch.arange(5.0).reshape(5, 1, 1, 1).expand(2, 5, 4, 8, 8)
    method = InterpretDiffusion(InterpretDiffusion.Config(batch_size=64))
    loss = method._update(context, latents, vectors)(0)["loss"]
    ((noised, timesteps, conditional, guidance),) = seen
    neutral = model.encode([prompt.text for prompt in context.prompts]).conditional
    number = (conditional[:, None] - neutral).abs().amax((2, 3)).argmin(1)
    assert guidance == 1 and set(number.tolist()) == {0, 1, 2, 3, 4}
    level = scheduler.alphas_cumprod[timesteps].reshape(-1, 1, 1, 1)
    clean = number.reshape(-1, 1, 1, 1)
    noise = (noised - level.sqrt() * clean) / (1 - level).sqrt()
    assert noise.std((1, 2, 3)).sub(1).abs().max() < 0.2 and noise.mean((1, 2, 3)).abs().max() < 0.3
    wanted = noise if kind == "epsilon" else level.sqrt() * noise - (1 - level).sqrt() * clean
    assert loss == pytest.approx(wanted.square().mean().item(), rel=1e-3)


def test_pictures_of_a_class_are_made_of_prompts_that_name_it(tmp_path, monkeypatch):
    model = tiny_model()
    context, asked = make_context(tmp_path, model), []
    encode = model.encode
    monkeypatch.setattr(model, "encode", lambda texts: asked.append(list(texts)) or encode(texts))
    latents = class_latents(context, context.space, 1, 7)
    names = ["nurse", "pilot", "cook", "judge", "baker", "nurse", "pilot"]
    assert asked == [[f"face of a male {name}" for name in names]] and latents.shape == (7, 4, 8, 8)
    assert len({float(picture.sum()) for picture in latents}) == 7


def test_an_interrupted_training_ends_bit_identical(tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "SAVE_EVERY", 2)
    monkeypatch.setattr(
        interpret_diffusion,
        "class_latents",
        lambda context, space, k, count: torch.full((count, 4, 8, 8), k + 1.0),
    )
    method = InterpretDiffusion(InterpretDiffusion.Config(images_per_class=2, batch_size=2))
    whole = method.fit(make_context(tmp_path / "whole", updates=4))

    def interrupt(row):
        if row["update"] == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        method.fit(make_context(tmp_path / "parts", updates=4, log=interrupt))
    parts = method.fit(make_context(tmp_path / "parts", updates=4))
    assert torch.equal(parts.tensors["gender"], whole.tensors["gender"])


def test_a_training_that_was_stopped_says_how_far_it_came(tmp_path, monkeypatch):
    monkeypatch.setattr(
        interpret_diffusion, "class_latents", lambda context, space, k, count: torch.ones(count, 4, 8, 8)
    )
    method = InterpretDiffusion(InterpretDiffusion.Config(images_per_class=2, batch_size=2))
    context = make_context(tmp_path, updates=4, log=lambda row: row["update"] == 3)
    assert method.fit(context).settings["updates"] == 3


@pytest.mark.parametrize("setting", [{"updates": 0}, {"learning_rate": 0}, {"strength": float("nan")}])
def test_settings_out_of_range_are_refused(setting):
    with pytest.raises(ValidationError):
        InterpretDiffusion.Config(**setting)
