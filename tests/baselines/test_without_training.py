"""What all closed-form baselines keep to, on the architecture of Stable Diffusion with random weights."""

from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError
from torch.testing import assert_close

from fairbench.draws import Draw
from fairbench.errors import UserError
from fairbench.intervention_files import load_intervention, save_intervention
from fairbench.models.hooks import Conditioning
from fairbench.plugins.registry import find_method

NAMES = [
    "attribute_switching", "debias_vl", "embedding_offset", "ethical_intervention", "fair_pca", "hard_prompt",
    "hard_prompt_negative", "time_edit", "uce",
]  # fmt: skip
IN_TRAINING = ["debias_vl", "embedding_offset", "fair_pca", "time_edit"]
"""Write classes into prompts of the training only."""
PROMPTS = ["face of a nurse", "face of an engineer", "face of a cook, a person"] * 2
SEEDS = [5, 6, 7, 2**62 + 1, 9, 10]


def made(name, **options):
    method = find_method(name)
    return method(method.Config(**{**getattr(method, "quick", {}), **options}))


def drawn(context):
    return Draw.make(context.space, context.target, "iid")


def generated(method, intervention, context, batch_size=16, guidance=None):
    with method.apply(intervention, context.model, drawn(context)) as hooks:
        return context.model.generate(PROMPTS, SEEDS, hooks=hooks, batch_size=batch_size, guidance=guidance)


def asked(method, context, test=PROMPTS, training=()):
    """Ask the method what a run would ask it."""
    prompts = [replace(context.prompts[0], text=text) for text in training] or context.prompts
    if hasattr(method, "check_task"):
        method.check_task(context.model, context.space, context.target, test)
    if hasattr(method, "check_fit"):
        method.check_fit(replace(context, prompts=prompts))


def fitted(method, context):
    asked(method, context)
    return method.fit(context)


@pytest.mark.parametrize("name", NAMES)
def test_pictures_change_whatever_the_batch_and_after_saving_and_the_model_stays(name, task, tmp_path):
    method, context = made(name), task(attributes="gender,race", updates=2)
    original = context.model.generate(PROMPTS, SEEDS)
    weights = {key: value.clone() for key, value in context.model.pipeline.unet.state_dict().items()}
    intervention = fitted(method, context)
    pictures = generated(method, intervention, context)
    assert (pictures - original).abs().max() > 1e-3
    assert_close(generated(method, intervention, context, batch_size=1), pictures, atol=1e-4, rtol=0)
    save_intervention(intervention, tmp_path / "saved")
    loaded = load_intervention(tmp_path / "saved")
    assert (loaded.method, loaded.draw_class) == (method.name, method.draw_class)
    assert torch.equal(generated(method, loaded, context), pictures)
    assert torch.equal(context.model.generate(PROMPTS, SEEDS), original)
    assert all(
        torch.equal(value, weights[key]) for key, value in context.model.pipeline.unet.state_dict().items()
    )


@pytest.mark.parametrize("name", [name for name in NAMES if hasattr(find_method(name), "neutral")])
def test_without_strength_nothing_changes(name, task):
    method, context = made(name, **find_method(name).neutral), task(updates=2)
    pictures = generated(method, fitted(method, context), context)
    assert_close(pictures, context.model.generate(PROMPTS, SEEDS), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["attribute_switching", "debias_vl", "embedding_offset", "fair_pca"])
def test_embeddings_change_in_the_conditional_half_only(name, task):
    method, context = made(name), task()
    given = context.model.encode(PROMPTS)
    with method.apply(fitted(method, context), context.model, drawn(context)) as hooks:
        changed = hooks.embed(given, PROMPTS, SEEDS)
    assert changed.unconditional is given.unconditional
    assert not torch.equal(changed.at(9, 10).conditional, given.conditional)


def test_a_negative_prompt_changes_the_unconditional_half_only(task):
    method, context = made("hard_prompt_negative"), task()
    given = Conditioning(*torch.randn(2, 6, 96, 16))
    with method.apply(fitted(method, context), context.model, drawn(context)) as hooks:
        changed = hooks.embed(given, hooks.rewrite(PROMPTS, SEEDS), SEEDS)
    assert changed.conditional is given.conditional
    others = [["male", "female"][k] for k in drawn(context)(SEEDS)]
    assert_close(changed.unconditional, context.model.encode(others).conditional)


def test_guidance_leads_from_the_negative_prompt_to_the_prompt(task):
    """With guidance 1 the prompt alone counts, with 0 the negative prompt alone."""
    method, context = made("hard_prompt_negative"), task(target="gender=1/0")
    intervention = fitted(method, context)
    texts = [text.replace("of a", "of a female").replace("femalen ", "female ") for text in PROMPTS]
    assert_close(
        generated(method, intervention, context, guidance=1.0),
        context.model.generate(texts, SEEDS, guidance=1.0), atol=1e-4, rtol=0,
    )  # fmt: skip
    assert_close(
        generated(method, intervention, context, guidance=0.0),
        context.model.generate(["male"] * 6, SEEDS, guidance=1.0), atol=1e-4, rtol=0,
    )  # fmt: skip


@pytest.mark.parametrize("name", ["hard_prompt", "hard_prompt_negative", "attribute_switching", "fair_pca"])
def test_the_draw_decides_the_class_and_one_without_mass_is_never_asked_for(name, task):
    method, context = made(name), task(target="gender=0/1")
    male = Draw("iid", (0.0, 1.0))
    with method.apply(fitted(method, context), context.model, male) as hooks:
        expected = context.model.generate(PROMPTS, SEEDS, hooks=hooks)
    assert torch.equal(generated(method, fitted(method, context), context), expected)
    with method.apply(fitted(method, context), context.model, Draw("iid", (1.0, 0.0))) as hooks:
        assert not torch.equal(context.model.generate(PROMPTS, SEEDS, hooks=hooks), expected)


@pytest.mark.parametrize("name", ["hard_prompt", "hard_prompt_negative", "attribute_switching", *IN_TRAINING])
def test_a_prompt_without_a_subject_is_refused_before_the_run(name, task):
    prompts = {"training" if name in IN_TRAINING else "test": [*PROMPTS, "mountains"]}
    with pytest.raises(UserError, match="'mountains' has no subject to describe"):
        asked(made(name), task(), **prompts)


@pytest.mark.parametrize("name", IN_TRAINING)
def test_without_training_prompts_there_is_nothing_to_learn_from(name, task):
    with pytest.raises(
        UserError, match="no training prompts to learn the classes from: train on another suite"
    ):
        made(name).check_fit(replace(task(), prompts=[]))


@pytest.mark.parametrize("name", IN_TRAINING)
def test_what_writes_into_training_prompts_only_takes_any_other(name, task):
    asked(made(name), task(), test=[*PROMPTS, "mountains"])


@pytest.mark.parametrize("name", [name for name in NAMES if name != "uce"])  # it writes into none
def test_a_prompt_that_becomes_too_long_is_refused_before_the_run(name, task):
    context, text = task(), "face of a " + "n" * 91
    context.model.tokens([text])
    with pytest.raises(UserError, match="tokens and tiny takes 96"):
        asked(made(name), context, **{"training" if name in IN_TRAINING else "test": [text]})


@pytest.mark.parametrize(
    ("name", "options", "instead"),
    [
        ("debias_vl", {}, "use a drawn method"),
        ("ethical_intervention", {}, "use a drawn method"),
        ("concept_algebra", {"reference": "neutral"}, "set it"),
    ],
)
def test_who_cannot_aim_at_a_ratio_says_so(name, options, instead, task):
    with pytest.raises(UserError, match=f"{name} .* ratio.*: leave --target out, or {instead}"):
        asked(made(name, **options), task(target="gender=0.25/0.75"))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("attribute_switching", {"after": 1.1}),
        ("attribute_switching", {"after": -0.1}),
        ("debias_vl", {"strength": -1}),
        ("debias_vl", {"strength": float("inf")}),
        ("embedding_offset", {"strength": float("nan")}),
        ("ethical_intervention", {"sentence": "charity"}),
        ("fair_pca", {"strength": 1.1}),
        ("fair_pca", {"noise": -1}),
        ("fair_pca", {"dimensions": 0}),
        ("hard_prompt", {"strength": 1}),
        ("time_edit", {"regularisation": 0}),
        ("time_edit", {"images_per_concept": 0}),
        ("uce", {"regularisation": -1}),
        ("uce", {"tolerance": 0}),
        ("uce", {"edition": "first"}),
        ("uce", {"concepts": 0}),
    ],
)
def test_settings_out_of_range_are_refused(name, options):
    with pytest.raises(ValidationError):
        find_method(name).Config(**options)
