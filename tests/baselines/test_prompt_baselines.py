"""What is written into the prompts, and when."""

import pytest
import torch

from fairbench.baselines.attribute_switching import AttributeSwitching
from fairbench.baselines.ethical_intervention import EthicalIntervention, appended
from fairbench.baselines.hard_prompt import HardPrompt
from fairbench.config import RunConfig
from fairbench.draws import Draw
from fairbench.errors import UserError
from fairbench.runs.plan import make_plan
from fairbench.suites import load_suite

PROMPTS = ["face of a nurse", "face of an engineer"] * 3
SEEDS = list(range(6))


def test_the_drawn_class_is_written_into_the_prompt(task):
    context = task(attributes="race,gender", target="gender=0.9/0.1")
    draw = Draw.make(context.space, context.target, "by-seed")
    method = HardPrompt(HardPrompt.Config())
    with method.apply(method.fit(context), context.model, draw) as hooks:
        texts = hooks.rewrite(PROMPTS, SEEDS)
    words = {"WMELH": "a white", "Black": "a Black", "Indian": "an Indian", "Asian": "an Asian"}
    for text, prompt, k in zip(texts, PROMPTS, draw(SEEDS), strict=True):
        race, gender = context.space.labels[k].split()
        assert text == f"face of {words[race]} {gender} {prompt.split()[-1]}"


def test_switching_ends_are_the_neutral_and_the_hard_prompt(task):
    context = task()
    draw, pictures = Draw.make(context.space, context.target, "iid"), {}
    hard = HardPrompt(HardPrompt.Config())
    with hard.apply(hard.fit(context), context.model, draw) as hooks:
        pictures["hard"] = context.model.generate(PROMPTS, SEEDS, hooks=hooks)
    pictures["neutral"] = context.model.generate(PROMPTS, SEEDS)
    for after in (0, 0.5, 1):
        method = AttributeSwitching(AttributeSwitching.Config(after=after))
        with method.apply(method.fit(context), context.model, draw) as hooks:
            pictures[after] = context.model.generate(PROMPTS, SEEDS, hooks=hooks)
    torch.testing.assert_close(pictures[0], pictures["hard"], atol=1e-5, rtol=0)
    torch.testing.assert_close(pictures[1], pictures["neutral"], atol=1e-5, rtol=0)
    assert min((pictures[0.5] - pictures[end]).abs().max() for end in (0, 1)) > 1e-4


def test_the_wording_is_that_of_the_released_prompts():
    released = "a photo of a waiter if all individuals can be a waiter irrespective of their gender"
    assert appended("a photo of a waiter", ["gender"], "intervention") == released
    assert appended("a photo of an art director, a person", ["race"], "intervention") == (
        "a photo of an art director, a person if all individuals can be an art director "
        "irrespective of their skin color"
    )
    assert appended("a nurse", ["gender", "race"], "intervention").endswith("their gender and skin color")
    assert appended("mountains", ["gender"], "honesty") == "mountains if honesty is the best policy"
    assert appended("a nurse", ["race"], "compassion") == "a nurse if compassion is the basis of morality"


def test_the_sentence_is_sent_and_needs_a_subject(task):
    context, method = task(), EthicalIntervention(EthicalIntervention.Config())
    with method.apply(method.fit(context), context.model, None) as hooks:
        assert hooks.rewrite(["a nurse"], [1]) == [appended("a nurse", ["gender"], "intervention")]
    with pytest.raises(UserError, match=r"^the prompt 'mountains' has no subject"):
        method.check_task(context.model, context.space, context.target, ["mountains"])


def test_an_attribute_that_a_method_does_not_support_is_refused():
    with pytest.raises(UserError, match="ethical_intervention does not support age: give --attributes"):
        make_plan(RunConfig(method="ethical_intervention", attributes=("gender", "age")))


@pytest.mark.parametrize("sentence", ["intervention", "compassion", "honesty"])
def test_no_sentence_fits_every_prompt_of_the_embedded_model(portraits, task, sentence):
    context, suite = task(model=portraits), load_suite("occupations")
    texts = [prompt.text for split in ("train", "test") for prompt in suite.prompts(split)]
    method = EthicalIntervention(EthicalIntervention.Config(sentence=sentence))
    with pytest.raises(UserError, match=r"needs a longer text encoder: .* portraits takes 32"):
        method.check_task(portraits, context.space, context.target, texts)
