"""Weights in half precision, tried out with bfloat16 on the CPU: what a GPU does by default."""

import pytest
import torch

from fairbench.errors import UserError
from fairbench.finetuning.adapters import adapter
from fairbench.finetuning.gradient import adjusted_gradient
from fairbench.methods.biased_dft import BiasedDFT
from fairbench.methods.naive_dft import NaiveDFT
from fairbench.models.hooks import Hooks
from fairbench.models.text_to_image import Defaults, TextToImage
from tests.finetuning.stand_ins import make_context
from tests.tiny import tiny_pipeline

PROMPTS, SEEDS = ["a face of the cat", "of a dog"] * 2, [1, 2, 3, 4]


def make(dtype=torch.bfloat16):
    return TextToImage(tiny_pipeline("dpm").to(dtype), "tiny", Defaults(steps=4, guidance=3.0))


def test_pictures_are_those_of_full_precision_but_for_rounding():
    half, full = make().generate(PROMPTS, SEEDS), make(torch.float32).generate(PROMPTS, SEEDS)
    assert half.dtype == torch.float32
    assert 0 < (half - full).abs().mean() < 0.01 < full.std()


def test_a_picture_depends_on_its_seed_alone():
    model = make()
    together = model.generate(PROMPTS, SEEDS)
    alone = model.generate(PROMPTS, SEEDS, batch_size=1)
    assert (together - alone).abs().mean() < 0.01


def test_what_is_added_up_is_added_up_in_full_precision():
    """Sums over steps and images of bfloat16 numbers lose what is below a 256th of them."""
    model = make()
    with adapter(model, "text_encoder", 2, 0) as tuned, torch.no_grad():
        conditioning = model.condition(PROMPTS, SEEDS, tuned.hooks)
        trajectory = model.rollout(conditioning, SEEDS, steps=4, guidance=3.0, keep=True)
        seen = {
            conditioning.conditional.dtype, trajectory.final.dtype, trajectory.prediction.dtype,
            *(parameter.dtype for parameter in tuned.parameters.values()),
        }  # fmt: skip
        assert seen == {torch.float32}
        with torch.enable_grad():
            conditioning = model.condition(PROMPTS, SEEDS, tuned.hooks)
            conditioning.conditional.register_hook(lambda gradient: seen.add(gradient.dtype))
            ones = torch.ones_like(trajectory.final)
            adjusted_gradient(model, trajectory, conditioning, ones, torch.ones(4), guidance=3.0)
    assert seen == {torch.float32}
    assert all(parameter.grad.dtype == torch.float32 for parameter in tuned.parameters.values())


@pytest.mark.parametrize("tune", ["text_encoder", "unet", "text_encoder+unet", "prefix"])
@pytest.mark.parametrize("method", [BiasedDFT, NaiveDFT])
def test_every_part_can_be_trained(tmp_path, monkeypatch, method, tune):
    monkeypatch.setenv("FAIRBENCH_CACHE", "off")
    small = {
        "prompts_per_update": 1,
        "images_per_prompt": 4,
        "noises_per_prompt": 4,
        "steps": 4,
        "tune": tune,
    }
    rank = {} if tune == "prefix" else {"rank": 2}
    context = make_context(tmp_path, make(), updates=2)
    learnt = method(method.Config(**small, **rank)).fit(context)
    tensors = learnt.tensors or learnt.embeddings
    assert all(tensor.isfinite().all() for tensor in tensors.values())
    with method(method.Config()).apply(learnt, context.model) as hooks:
        changed = context.model.generate(["face of a cook"] * 4, SEEDS, hooks=hooks)
    assert not torch.equal(changed, context.model.generate(["face of a cook"] * 4, SEEDS, hooks=Hooks()))


@pytest.mark.parametrize("method", ["biased_dft", "interpret_diffusion", "iti_gen"])
def test_gradients_in_float16_are_refused(method):
    from fairbench.plugins.registry import find_method

    kind = find_method(method)
    with pytest.raises(UserError, match=r"tiny is loaded in float16.* --model 'tiny\[dtype=float32\]'"):
        kind(kind.Config()).check(make(torch.float16))
