"""Further prompts whose noise is predicted beside the image's own."""

import torch
from torch.testing import assert_close

from fairbench.models.hooks import Hooks, classifier_free_guidance
from tests.finetuning.stand_ins import tiny_model

PROMPTS, SEEDS = ["a face of the cat", "the face", "of a dog"], [11, 22, 33]


def test_a_branch_is_the_prediction_of_its_own_prompt_on_the_same_latents():
    model, seen = tiny_model(), []

    def branches(prompts, seeds):
        assert (list(prompts), list(seeds)) == (PROMPTS, SEEDS)
        return [["a cook"] * 3, [f"face {seed}" for seed in seeds]]

    def combine(unconditional, conditional, guidance, step, latents, *others):
        seen.append((step, latents, others))
        return classifier_free_guidance(unconditional, conditional, guidance)

    with torch.inference_mode():
        hooks = Hooks(branches=branches, combine=combine)
        conditioning = model.condition(PROMPTS, SEEDS, hooks)
        model.rollout(conditioning, SEEDS, steps=4, guidance=3.0, hooks=hooks)
        assert [step.index for step, _, _ in seen] == [0, 1, 2, 3] and seen[0][0].total == 4
        step, latents, others = seen[2]
        for prompts, noise in zip((["a cook"] * 3, ["face 11", "face 22", "face 33"]), others, strict=True):
            alone = model.predict_noise(latents, step.timestep, model.encode(prompts), 1.0)
            assert_close(noise, alone, atol=1e-5, rtol=1e-4)


def test_rows_are_unconditional_then_conditional_then_the_branches():
    model, rows = tiny_model(), []
    hooks = Hooks(
        branches=lambda prompts, seeds: [["a cook"] * len(seeds)] * 2,
        modules={"conv_in": lambda output, step: rows.append(len(output)) or output},
        combine=lambda unconditional, conditional, *rest: unconditional,
    )
    pictures = model.generate(PROMPTS, SEEDS, hooks=hooks)
    assert rows == [4 * 3] * model.defaults.steps
    assert_close(pictures, model.generate([""] * 3, SEEDS, guidance=1.0), atol=1e-5, rtol=0)


def test_branches_that_nothing_combines_change_nothing():
    model = tiny_model()
    hooks = Hooks(branches=lambda prompts, seeds: [["a cook"] * len(seeds)])
    plain = model.generate(PROMPTS, SEEDS)
    assert_close(model.generate(PROMPTS, SEEDS, hooks=hooks), plain, atol=1e-5, rtol=0)


def test_every_row_that_enters_the_unet_is_counted():
    model, seen = tiny_model(), []
    model.pipeline.unet.register_forward_pre_hook(lambda module, args: seen.append(len(args[0])))
    hooks = Hooks(branches=lambda prompts, seeds: [["a cook"] * len(seeds)] * 2)
    for options in ({}, {"hooks": hooks, "batch_size": 2}, {"guidance": 1.0}):
        model.generate(PROMPTS, SEEDS, **options)
    assert model.unet_rows == sum(seen) == 3 * model.defaults.steps * (2 + 4 + 1)
