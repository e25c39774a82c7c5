"""Shares are counts of what the judge sees, on noise of the prompt's own."""

import pytest
import torch

from fairbench.attributes import AttributeSpace
from fairbench.editing.shares import class_shares, spread
from tests.finetuning.stand_ins import ColourJudge, make_context, tiny_model


class Told:
    """A judge that was told what to say of the images in turn: gender, race, face."""

    name, sha256 = "told", "2" * 64

    def __init__(self, seen):
        self.seen = torch.tensor(seen)

    def logits(self, images):
        now, self.seen = self.seen[: len(images)], self.seen[len(images) :]
        one_hot = torch.nn.functional.one_hot
        return {
            "gender": one_hot(now[:, 0], 2).float(),
            "race": one_hot(now[:, 1], 4).float(),
            "face": now[:, 2].float() - 0.5,
        }


def test_shares_count_the_joint_classes_of_images_with_a_face(tmp_path):
    seen = [(1, 2, 1), (1, 2, 1), (0, 3, 1), (1, 0, 0), *[(0, 0, 0)] * 4]
    context = make_context(tmp_path, attributes="gender,race", target="gender=0.25/0.75", judge=Told(seen))
    first, second = class_shares(context, context.prompts[:2], 4)
    expected = torch.zeros(8, dtype=torch.float64)
    expected[[6, 3]] = torch.tensor([2 / 3, 1 / 3], dtype=torch.float64)
    torch.testing.assert_close(first, expected)
    joint = context.target.joint(AttributeSpace.parse("gender,race").names)
    torch.testing.assert_close(second, torch.tensor(joint))


def test_prompts_are_taken_evenly_from_the_whole_list():
    assert spread(list("abcdefgh"), 4) == list("aceg")
    assert spread(list("abc"), 9) == list("abc")
    assert spread(list("abcde"), 2) == ["a", "c"]


def test_the_images_are_those_of_the_prompt_and_others_have_other_noise(tmp_path):
    model, asked = tiny_model(), []
    original = model.generate
    model.generate = lambda prompts, seeds, **options: (
        asked.append((prompts, seeds)) or original(prompts, seeds)
    )
    context = make_context(tmp_path, model, judge=ColourJudge())
    shares = class_shares(context, context.prompts[:2], 3)
    class_shares(context, context.prompts[:1], 3, first=3)
    assert shares.sum(1).tolist() == pytest.approx([1, 1])
    assert [texts for texts, _ in asked] == [[context.prompts[k].text] * 3 for k in (0, 1, 0)]
    assert len({seed for _, seeds in asked for seed in seeds}) == 9
