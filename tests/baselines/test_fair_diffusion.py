"""Semantic guidance against its law at zero, diffusers' frozen pipeline, and a second pass by hand."""

import numpy as np
import pytest
import torch
from diffusers import SemanticStableDiffusionPipeline
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch.testing import assert_close

from fairbench.attributes import AttributeSpace
from fairbench.baselines.fair_diffusion import FairDiffusion, signs, thresholded
from tests.finetuning.stand_ins import make_context, tiny_model

PROMPT, EDITS = "face of a cook", ["female person", "male person"]


def drawn(*classes):
    return lambda seeds: np.array([classes[seed] for seed in seeds])


def latents(model, method, draw, seeds, steps=8):
    intervention = method.fit(make_context(None, model))
    assert intervention.settings["edits"] == EDITS
    with method.apply(intervention, model, draw) as hooks, torch.no_grad():
        conditioning = model.condition([PROMPT] * len(seeds), seeds, hooks)
        return model.rollout(conditioning, seeds, steps=steps, guidance=3.0, hooks=hooks).final


@pytest.mark.parametrize("k", [0, 1])
@pytest.mark.parametrize("scheduler", ["ddim", "dpm"])
def test_one_image_equals_the_pipeline_of_diffusers(k, scheduler):
    model = tiny_model(scheduler)
    method = FairDiffusion(FairDiffusion.Config(scale=4, threshold=0.9, warmup=0.25))
    ours = latents(model, method, drawn(k), [0])
    stock = SemanticStableDiffusionPipeline(
        **{key: value for key, value in model.pipeline.components.items() if key != "image_encoder"},
        requires_safety_checker=False,
    )
    stock.set_progress_bar_config(disable=True)
    theirs = stock(
        PROMPT,
        num_inference_steps=8,
        guidance_scale=3.0,
        generator=torch.Generator().manual_seed(0),
        editing_prompt=EDITS,
        reverse_editing_direction=[k == 1, k == 0],
        edit_guidance_scale=4,
        edit_threshold=0.9,
        edit_warmup_steps=2,
        edit_momentum_scale=0.5,
        edit_mom_beta=0.6,
        output_type="latent",
    ).images
    assert (
        ours - latents(model, FairDiffusion(FairDiffusion.Config(scale=0)), drawn(k), [0])
    ).abs().max() > 0.1
    assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_scale_zero_is_plain_guidance():
    model = tiny_model()
    plain = model.rollout(model.encode([PROMPT] * 2), [0, 1], steps=8, guidance=3.0).final
    pushed = latents(model, FairDiffusion(FairDiffusion.Config(scale=0)), drawn(0, 1), [0, 1])
    assert_close(pushed, plain, atol=1e-5, rtol=1e-5)


def test_every_image_of_a_batch_goes_its_own_way_and_remembers_no_other():
    model, method = tiny_model(), FairDiffusion(FairDiffusion.Config())
    draw = drawn(0, 1, 1)
    together = latents(model, method, draw, [0, 1, 2])
    alone = torch.cat([latents(model, method, draw, [seed]) for seed in (2, 0, 1)])
    assert_close(together[[2, 0, 1]], alone, atol=1e-4, rtol=1e-4)
    assert (together[1] - latents(model, method, drawn(0, 0, 0), [1])[0]).abs().max() > 0.1


def test_a_second_batch_remembers_nothing_of_the_first():
    model, method = tiny_model(), FairDiffusion(FairDiffusion.Config(momentum_scale=2))
    intervention = method.fit(make_context(None, model))
    with method.apply(intervention, model, drawn(0)) as hooks, torch.no_grad():
        conditioning = model.condition([PROMPT], [0], hooks)
        first, second = (
            model.rollout(conditioning, [0], steps=4, guidance=3.0, hooks=hooks).final for _ in range(2)
        )
    assert torch.equal(first, second)


@given(k=st.integers(0, 15))
def test_signs_are_one_for_the_class_of_every_attribute_and_make_up_for_it_by_the_others(k):
    space = AttributeSpace(("gender", "race", "age"))
    row = signs(space, [k])[0]
    words = [label for labels in space.classes.values() for label in labels]
    shown = [word for word, sign in zip(words, row, strict=True) if sign == 1]
    assert " ".join(shown) == space.labels[k]
    for part in row.split([2, 4, 2]):
        others = part[part != 1]
        assert len(set(others.tolist())) == 1 and part.sum() == pytest.approx(0, abs=1e-6)


@given(rank=st.integers(0, 23))
def test_a_threshold_keeps_the_largest_values_of_every_channel(rank):
    quantile = (rank + 0.5) / 24  # between two of the 25 values, where rounding decides nothing
    directions = torch.randn(2, 3, 4, 5, 5, generator=torch.Generator().manual_seed(0))
    kept = thresholded(directions, quantile)
    for index in np.ndindex(2, 3, 4):
        values = directions[index].numpy()
        least = np.quantile(np.abs(values), quantile)
        expected = np.where(np.abs(values) >= least, values, 0)
        assert_close(kept[index], torch.from_numpy(expected))


@pytest.mark.parametrize(
    "setting", [{"scale": -1}, {"threshold": 1.1}, {"warmup": -0.1}, {"momentum_decay": 1}, {"edits": ["x"]}]
)
def test_settings_out_of_range_are_refused(setting):
    with pytest.raises(ValidationError):
        FairDiffusion.Config(**setting)
