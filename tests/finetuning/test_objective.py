import math

import pytest
import torch
from scipy.stats import binom

from fairbench.finetuning.batches import Batch
from fairbench.finetuning.objective import Objective
from tests.finetuning.stand_ins import ColourJudge, make_context


class NoOriginals:
    """Original pictures that looked just like the images."""

    def __init__(self, images, context):
        logits = context.judge.logits(images)
        self.table = {f"features/{network.name}": network(images) for network in context.features}
        self.table |= {f"class/{name}": logits[name].argmax(1) for name in context.space.names}

    def look_up(self, pictures, device):
        return self.table


def pictures(reds):
    """One image per number, redder (female) the larger it is."""
    images = torch.full((len(reds), 3, 8, 8), 0.5)
    images[:, 0] += torch.tensor(reds)[:, None, None]
    return images


def evaluate(tmp_path, images, prompts, **changes):
    context = make_context(tmp_path, model=object(), judge=ColourJudge(4.0), **changes)
    batch = Batch(0, ["a"] * len(images), list(range(len(images))), len(images) // prompts, torch.Generator())
    objective = Objective(context, NoOriginals(images, context), 0.8, 8.0, 0.2)
    return objective(images, batch)


def test_alignment_is_the_mean_over_prompts_of_confident_cross_entropies(tmp_path):
    reds = [0.1, -0.2, 0.3, 0.25, 0.15, 0.05, -0.1, 0.2, 0.3, 0.35]
    loss, row = evaluate(tmp_path, pictures(reds), prompts=2)
    expected = 0.0
    for part in (reds[:5], reds[5:]):
        maleness = sorted(part, reverse=True)
        for red in part:
            male = binom.cdf(maleness.index(red), 5, 0.5)
            if max(male, 1 - male) >= 0.8:
                logit = 8.0 * red * (-1 if male > 0.5 else 1)
                expected += math.log1p(math.exp(-logit)) / 5 / 2
    assert loss.item() == pytest.approx(expected, rel=1e-4)
    assert row["loss_semantics"] == pytest.approx(0, abs=1e-5)
    assert row["gap_gender"] == pytest.approx(((4 - 1) / 5 + (4 - 1) / 5) / 2)
    assert row["faces"] == 1


def test_pictures_without_a_face_take_no_part(tmp_path):
    images = pictures([0.1, -0.2, 0.3, 0.2, 0.15, 0.3])
    images[2:] = 0
    loss, row = evaluate(tmp_path, images, prompts=3)
    assert math.isfinite(loss.item()) and row["faces"] == pytest.approx(2 / 6)
    assert row["gap_gender"] == 0
    assert math.isnan(evaluate(tmp_path, images * 0, prompts=1)[1]["gap_gender"])


def test_several_attributes_are_matched_together(tmp_path):
    images = torch.rand(8, 3, 8, 8, generator=torch.Generator().manual_seed(3)).requires_grad_()
    loss, row = evaluate(tmp_path, images, prompts=2, attributes="gender,race")
    (gradient,) = torch.autograd.grad(loss, images)
    assert gradient.isfinite().all() and {"gap_gender", "gap_race"} <= row.keys()


def test_broken_pictures_are_reported_not_judged(tmp_path):
    with pytest.raises(FloatingPointError):
        evaluate(tmp_path, pictures([0.1, math.nan]), prompts=1)
