"""What `diagnose` tells of a tiny model, against gradients computed another way."""

import numpy as np
import pytest
import torch

from fairbench.diagnostics.curves import loss_curves
from fairbench.diagnostics.gradients import RANDOM_SCALE, RULES, Task, anatomy, diagnose, scales
from fairbench.finetuning.gains import path_gains
from fairbench.finetuning.gradient import adjusted_gradient, exact_gradient
from fairbench.models.hooks import Conditioning
from fairbench.models.text_to_image import TextToImage
from tests.finetuning.stand_ins import Coarse
from tests.tiny import tiny_pipeline

STEPS, COUNT = 4, 5


@pytest.fixture(scope="module")
def task():
    model = TextToImage(tiny_pipeline("dpm"), "tiny")
    return Task(model, [Coarse()], "the face of a pilot", "the face of a nurse", STEPS, 3.0)


def curves(task, **changes):
    settings = {"updates": 2, "runs": 2, "images": 2, "learning_rate": 0.1, "clip": 1.0}
    return loss_curves(task, **(settings | changes))


def test_the_other_prompt_solves_the_task(task):
    seeds = task.seeds("noise", 3)
    goal = task.goal(seeds)
    with torch.no_grad():
        reached = task.losses(task.rollout(task.encode(task.towards, 3), seeds).final, goal)
        begun = task.losses(task.rollout(task.encode(task.prompt, 3), seeds).final, goal)
    assert reached.abs().max() < 1e-6 < begun.min()


def test_scales_are_norms_of_single_steps(task):
    table = scales(task, COUNT)
    seeds = task.seeds("noise", COUNT)
    conditioning = task.encode(task.prompt, COUNT)
    trajectory = task.rollout(conditioning, seeds)
    assert list(table["scale_raw"] / table["scale_standardised"]) == pytest.approx(
        (task.weights("raw") / task.weights("standardised")).tolist(), rel=1e-5
    )
    for rule in RULES:
        assert (table[f"low_{rule}"] <= table[f"scale_{rule}"]).all()
        assert (table[f"scale_{rule}"] <= table[f"high_{rule}"]).all()
    # nothing comes after the last step, so there the exact term is the uncoupled one
    assert table["scale_exact"].iloc[-1] == pytest.approx(table["scale_raw"].iloc[-1], rel=1e-5)
    assert len(trajectory.timesteps) == len(table) == STEPS


def test_the_random_cotangent_is_that_of_the_paper(task, monkeypatch):
    from fairbench.diagnostics import gradients

    seen = []
    original = gradients.step_contributions

    def spy(model, trajectory, conditioning, cotangent, gains, **rest):
        seen.append(cotangent)
        return original(model, trajectory, conditioning, cotangent, gains, **rest)

    monkeypatch.setattr(gradients, "step_contributions", spy)
    scales(task, 20)
    assert seen[0].square().mean().item() == pytest.approx(1e-4, rel=0.05) and RANDOM_SCALE**2 == 1e-4
    assert not torch.equal(seen[0][0], seen[0][1])


def test_shares_and_cosines_are_those_of_the_gradients(task):
    shares, numbers = anatomy(task, COUNT)
    for rule in RULES:
        assert shares[f"share_{rule}"].sum() == pytest.approx(1, abs=1e-5)
    seeds = task.seeds("update", COUNT)
    start = task.encode(task.prompt, COUNT)
    trajectory = task.rollout(start, seeds)
    latents = trajectory.final.clone().requires_grad_()
    (cotangent,) = torch.autograd.grad(task.losses(latents, task.goal(seeds)).sum(), latents)

    def gradient(rule):
        leaf = Conditioning(start.conditional.clone().requires_grad_(), start.unconditional)
        arguments = (task.model, trajectory, leaf, cotangent)
        if rule == "exact":
            exact_gradient(*arguments, path_gains(task.model.pipeline.scheduler, STEPS)[1], guidance=3.0)
        else:
            adjusted_gradient(*arguments, task.weights(rule), guidance=3.0)
        return leaf.conditional.grad.flatten(1).numpy()

    exact = gradient("exact")
    for rule in RULES[1:]:
        other = gradient(rule)
        mean, others = exact.mean(0), other.mean(0)
        expected = mean @ others / np.linalg.norm(mean) / np.linalg.norm(others)
        assert numbers["cosine"][rule]["update"] == pytest.approx(expected, abs=1e-4)
        single = (exact * other).sum(1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(other, axis=1)
        assert numbers["cosine"][rule]["image"]["mean"] == pytest.approx(single.mean(), abs=1e-4)
    assert set(numbers["noise_scale"]) == set(RULES)


def test_loss_curves_fall_from_one_common_start_and_are_the_same_again(task):
    table = curves(task, updates=6, learning_rate=0.05)
    assert len(table) == 3 * 2 * 6
    first = table[table["update"] == 1].pivot(index="run", columns="rule", values="loss")
    assert first.nunique(axis=1).eq(1).all()
    biased = table[table["rule"] == "standardised"].groupby("update")["loss"].mean()
    assert biased.tail(2).mean() < 0.8 * biased.iloc[0]
    assert curves(task, updates=1, learning_rate=0.05).equals(
        table[table["update"] == 1].reset_index(drop=True)
    )


def test_runs_in_one_batch_do_not_touch_each_other(task):
    alone, both = curves(task, runs=1, updates=1), curves(task, runs=2, updates=1)
    again = both[both["run"] == 0]
    assert again["loss"].tolist() == pytest.approx(alone["loss"].tolist(), abs=1e-5)
    assert again["norm"].tolist() == pytest.approx(alone["norm"].tolist(), rel=1e-3)


def test_clipped_and_broken_updates_are_counted_and_change_nothing(task, monkeypatch):
    from fairbench.diagnostics import curves as module

    norms = curves(task, updates=1)["norm"]
    assert (
        curves(task, updates=1, clip=norms.median())["clipped"].tolist() == (norms > norms.median()).tolist()
    )

    def broken(model, trajectory, conditioning, *rest, **named):
        conditioning.conditional.backward(torch.full_like(conditioning.conditional, torch.nan))

    monkeypatch.setattr(module, "exact_gradient", broken)
    monkeypatch.setattr(module, "BANK", 2)
    table = curves(task, updates=2)
    exact = table[table["rule"] == "exact"]
    assert not exact["finite"].any() and not exact["clipped"].any()
    # all noises at every update: a prompt that does not move has the same loss each time
    assert exact.groupby("run")["loss"].apply(lambda losses: losses.max() - losses.min()).max() < 1e-5
    assert table[table["rule"] == "raw"]["finite"].all()


def test_the_diagnosis_holds_it_all_together(task):
    told = []
    found = diagnose(task, seeds=3, curves=curves, progress=lambda *what: told.append(what))
    assert len(found.steps) == STEPS and not found.steps.isna().any().any()
    assert list(found.steps["gain"]) == pytest.approx(
        path_gains(task.model.pipeline.scheduler, STEPS)[1][-1].tolist()
    )
    summary = found.summary
    first = found.steps.iloc[0]
    assert summary["exact_over"]["standardised"] == pytest.approx(
        first["scale_exact"] / first["scale_standardised"]
    )
    assert summary["spread"]["exact"] == pytest.approx(first["high_exact"] / first["low_exact"])
    assert summary["nonfinite_rate"] == dict.fromkeys(RULES, 0.0)
    assert told[0] == ("gradients", 0, 2)
