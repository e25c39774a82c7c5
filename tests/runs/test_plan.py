"""What a run is going to do: every name resolved once, and everything refused that needs no model to be."""

import re

import pytest
import torch

from fairbench.errors import Unsupported, UserError
from fairbench.images import rows, sources
from fairbench.intervention import Intervention
from fairbench.intervention_files import save_intervention
from fairbench.runs import plan as planning
from fairbench.runs.plan import make_plan
from fairbench.runs.run import run
from tests.runs.folders import folder_of
from tests.runs.small import SUITE


def test_an_unknown_monitor_is_refused_before_anything_is_written(small, tmp_path):
    for name in ("unstabel", "overfitting"):  # the second can only be told at the end
        with pytest.raises(UserError, match=r"unknown monitor to stop on .*unstable"):
            run(small.config(stop_on=(name,)), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_drawn_classes_are_those_that_the_method_learnt(small, tmp_path):
    run(small.config(method="hard_prompt"), tmp_path / "run")
    adapter = str(tmp_path / "run" / "adapter")
    for attributes in (("race",), ("gender", "race")):
        with pytest.raises(UserError, match="balances gender: give --attributes gender"):
            run(small.config(method="hard_prompt", adapter=adapter, attributes=attributes), tmp_path / "e")
        assert not (tmp_path / "e").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "nudg"}, "unknown method 'nudg': did you mean 'nudge'"),
        ({"method_options": {"sise": 1}}, "method nudge: unknown key 'sise': did you mean 'size'"),
        ({"suite": "occupation"}, "unknown suite 'occupation'"),
        ({"test_prompts": 3}, "--test-prompts 3: the suite has 2 test prompts"),
        ({"test_prompts": 2, "split": "validation"}, "--test-prompts 2: the suite has 1 validation prompts"),
        ({"until_width": 0.1}, "measures a model as it is: leave out --method nudge"),
        ({"reference": "nowhere"}, "nowhere: is neither a folder nor a table"),
        ({"real_faces": "nowhere"}, "nowhere: is neither a folder nor a table"),
        ({"adapter": "nowhere"}, "nowhere"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_a_setting_that_cannot_be_is_refused_without_a_model(small, changes, message):
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        make_plan(small.config(**{"model": "nobody", **changes}))
    assert "\n" not in str(caught.value)


def test_an_attribute_that_a_method_does_not_support_is_told_apart_from_a_mistake(small):
    settings = {"method": "ethical_intervention", "model": "nobody"}
    with pytest.raises(Unsupported, match="does not support age: give --attributes out of gender, race"):
        make_plan(small.config(**settings, attributes=("gender", "age")))
    assert make_plan(small.config(**settings, attributes=("race",))).space.names == ("race",)


def test_what_is_left_open_is_filled_in(small):
    def concepts(prompts):
        return [prompt.concept for prompt in prompts]

    plan = make_plan(small.config(target="gender=0.25/0.75", test_prompts=1))
    assert (plan.trains, plan.updates, plan.adapter) == (True, 3, None)
    assert (concepts(plan.test), concepts(plan.training)) == (["cook"], ["vet", "spy"])
    assert plan.target.probabilities == {"gender": (0.25, 0.75)}
    assert make_plan(small.config(method_options={"updates": 4})).updates == 4
    assert make_plan(small.config(method_options={"updates": 4}, updates=5)).updates == 5
    bare = make_plan(small.config(method="original", split="validation"))
    assert (bare.trains, bare.updates) == (False, 0)
    assert (concepts(bare.test), concepts(bare.training)) == (["dj"], [])


def test_folders_and_the_adapter_are_looked_through_once_in_a_whole_run(small, tmp_path, monkeypatch):
    folders = [folder_of(tmp_path / name, ["a"], 2, seed) for seed, name in enumerate(("real", "compared"))]
    save_intervention(Intervention("nudge", "emergent", {"size": torch.tensor(0.5)}), tmp_path / "adapter")
    looked = []

    def counted(module, name):
        does = getattr(module, name)
        monkeypatch.setattr(module, name, lambda what, *more: looked.append(str(what)) or does(what, *more))

    counted(rows, "sha256_of")
    counted(sources, "find_images")
    counted(planning, "load_adapter")
    real, compared = map(str, folders)
    adapter = str(tmp_path / "adapter")
    settings = {"real_faces": real, "reference": compared, "adapter": adapter, "updates": 1}
    run(small.config(**settings), tmp_path / "run")
    images = [str(path) for folder in folders for path in folder.rglob("*.png")]
    assert len(images) == 4
    once = [real, compared, adapter, *images]
    assert sorted(each for each in looked if each in once) == sorted(once)


def test_an_adapter_is_of_the_method_that_is_named(small, tmp_path):
    for method in ("nudge", "uce"):
        learnt = Intervention(method, "emergent", settings={"attributes": ["gender"]})
        save_intervention(learnt, tmp_path / method)
    with pytest.raises(UserError, match=r"uce is of uce, not of nudge"):
        make_plan(small.config(adapter=str(tmp_path / "uce")))
    free = make_plan(small.config(adapter=str(tmp_path / "nudge"), attributes="race"))
    assert (free.adapter.method, free.space.names) == ("nudge", ("race",))


def test_a_suite_without_training_prompts_is_measured_on_but_not_trained_on(small, tmp_path):
    suite = tmp_path / "still.yaml"
    suite.write_text(SUITE.replace("train: [vet, spy], ", ""))
    with pytest.raises(UserError, match="jobs has no training prompts: train on another one"):
        make_plan(small.config(suite=str(suite)))
    save_intervention(Intervention("nudge", "emergent"), tmp_path / "adapter")
    learnt = make_plan(small.config(suite=str(suite), adapter=str(tmp_path / "adapter")))
    assert learnt.training == () and len(learnt.test) == 2
    assert make_plan(small.config(suite=str(suite), method="original")).training == ()
    assert make_plan(small.config(suite=str(suite), method="hard_prompt")).updates == 0
