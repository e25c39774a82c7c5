"""What a run measures with: networks that fit, none of them on both sides, and a model that can be asked."""

import shutil

import pytest
import torch

from fairbench.attributes import AttributeSpace
from fairbench.errors import Unsupported, UserError
from fairbench.intervention import Intervention
from fairbench.intervention_files import save_intervention
from fairbench.plugins.registry import find_method
from fairbench.runs.instruments import check_fit, describe, load_instruments, load_observers, refuse_twins
from fairbench.runs.plan import make_plan
from fairbench.runs.run import run
from fairbench.suites import load_suite
from tests.runs.folders import picture
from tests.runs.small import renamed


def test_the_training_judge_may_not_evaluate_under_any_name(small, tmp_path):
    config = small.config(judges=[str(small.root / "judge-train")])
    with pytest.raises(UserError, match="trains the method"):
        run(config, tmp_path / "run")
    twice = small.config(judges=[str(small.root / "judge-a")] * 2)
    with pytest.raises(UserError, match="name each one once"):
        run(twice, tmp_path / "run")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("checks", [False, True])
def test_a_plugin_is_tried_before_a_run_but_not_with_the_whole_suite(small, tmp_path, monkeypatch, checks):
    asked, checked = [], []

    class Plugin:
        name = "plugin"

        def generate(self, prompts, seeds, **_):
            asked.append(len(prompts))
            return torch.rand(len(prompts), 3, 64, 64)

    if checks:
        Plugin.check = lambda self, prompts: checked.extend(prompts)
    monkeypatch.setattr("fairbench.runs.instruments.load_model", lambda name: Plugin())
    run(small.config(method="original", model="plugin"), tmp_path / "run")
    assert asked == ([6] if checks else [1, 6])
    assert checked == (["face of a cook", "face of a maid"] if checks else [])


def test_a_training_and_an_evaluation_judge_may_not_share_a_name(small, tmp_path):
    namesake = renamed(small.root / "judge-a", tmp_path / "judge", "judge-train")
    with pytest.raises(UserError, match="two networks are called judge-train"):
        run(small.config(judges=[namesake]), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_training_features_may_not_measure_under_any_name(small, tmp_path):
    copied = tmp_path / "renamed"
    shutil.copytree(small.root / "ssl-train", copied)
    with pytest.raises(UserError, match="features ssl-train train the method"):
        run(small.config(features=[str(copied)]), tmp_path / "run")
    assert not (tmp_path / "run").exists()


class Plugin:
    """Paints one colour per seed; like many, it keeps what it wraps under the name `pipeline`."""

    pipeline = None

    def check(self, prompts):
        pass

    def generate(self, prompts, seeds, *, steps, guidance):
        colours = torch.tensor([[seed % 251, seed % 241, seed % 239] for seed in seeds]) / 255
        return colours[:, :, None, None].expand(-1, -1, 64, 64)


def test_a_plugin_that_has_a_pipeline_is_measured_but_cannot_be_trained(small, tmp_path, monkeypatch):
    monkeypatch.setattr("fairbench.runs.instruments.load_model", lambda name: Plugin())
    metrics = run(small.config(method="original", model="plugin", steps=5000), tmp_path / "run")
    assert metrics.variants["original"].bias["gender"].images == 6
    with pytest.raises(UserError, match="plugin can only be evaluated, with --method original: nudge needs"):
        load_instruments(make_plan(small.config(model="plugin")))


def test_more_steps_than_the_sampler_has_are_refused(small):
    with pytest.raises(UserError, match=r"--steps 1001: the sampler of .*model takes at most 1000"):
        load_instruments(make_plan(small.config(steps=1001)))
    assert load_instruments(make_plan(small.config(steps=500))).model.most_steps == 1000


def test_twins_are_all_named_and_namesakes_of_different_kinds_are_none(small):
    with pytest.raises(UserError, match="two networks are called a, b: rename one, or name each one once"):
        refuse_twins(["b", "a", "c", "b", "a"])
    features = [str(small.root / "ssl")] * 2
    with pytest.raises(UserError, match="two networks are called ssl"):
        load_instruments(make_plan(small.config(features=features)))
    refuse_twins([])


@pytest.mark.parametrize(
    ("settings", "renders"),
    [
        ({"model": "portraits-renderer", "suite": "occupations"}, True),
        ({"model": "portraits-renderer"}, False),
        ({"model": "portraits-renderer", "suite": "explicit"}, False),
        ({"model": "portraits-renderer", "suite": "occupations", "reference": "a folder"}, False),
        ({"suite": "occupations"}, False),
    ],
    ids=["its own prompts", "words it does not know", "obedience", "a folder instead", "another model"],
)
def test_references_are_rendered_where_the_embedded_world_knows_every_prompt(small, settings, renders):
    config = small.config(**{"method": "original", **settings})
    suite = load_suite(config.suite)
    found = load_observers(config, AttributeSpace(config.attributes), suite, suite.prompts("test"))
    assert (found.reference is not None) == renders
    assert found.model is None and [judge.name for judge in found.judges] == ["judge-a", "judge-b"]


def test_what_is_about_to_be_measured_is_written_down(small):
    plan = make_plan(small.config(method_options={"size": 0.25}, target="gender=0.25/0.75"))
    instruments = load_instruments(plan)
    written = describe(plan, instruments)
    assert (written.method, written.draw_class, written.network) == ("nudge[size=0.25]", "emergent", "ssl")
    assert (written.suite, written.suite_sha256) == ("jobs", plan.suite.sha256)
    assert (written.attributes, written.target) == (("gender",), {"gender": (0.25, 0.75)})
    trained = {judge.name: judge.trained for judge in written.judges}
    assert trained == {"judge-a": False, "judge-b": False, "judge-train": True}
    for judge, loaded in zip(written.judges, instruments.all_judges, strict=True):
        assert (judge.sha256, judge.weights) == (loaded.sha256, tuple(loaded.weights))
        assert set(judge.attributes) == {"gender", "race"}


def test_what_a_method_cannot_learn_from_is_refused_unless_it_has_learnt(small, tmp_path, monkeypatch):
    asked = []

    def refuse(self, context):
        asked.append([prompt.concept for prompt in context.prompts])
        raise UserError("needs faces")

    monkeypatch.setattr(find_method("nudge"), "check_fit", refuse, raising=False)
    plan = make_plan(small.config())
    instruments = load_instruments(plan)
    with pytest.raises(Unsupported, match="needs faces"):
        check_fit(plan, instruments, tmp_path / "training")
    save_intervention(Intervention("nudge", "emergent", {"size": torch.tensor(1.0)}), tmp_path / "adapter")
    learnt = make_plan(small.config(adapter=str(tmp_path / "adapter")))
    check_fit(learnt, instruments, tmp_path / "training")
    assert asked == [["vet", "spy"]] and not (tmp_path / "training").exists()


def test_what_was_learnt_for_another_model_is_refused_before_it_is_applied(small, tmp_path):
    foreign = Intervention("biased_dft", "emergent", embeddings={"<five>": torch.zeros(5, 7)})
    save_intervention(foreign, tmp_path / "adapter")
    plan = make_plan(small.config(method="biased_dft", adapter=str(tmp_path / "adapter")))
    with pytest.raises(UserError, match="fit"):
        check_fit(plan, load_instruments(plan), tmp_path / "training")


def test_real_faces_are_read_before_anything_is_learnt_from_them(small, tmp_path):
    torn = picture(tmp_path / "faces" / "0.png")
    plan = make_plan(small.config(real_faces=str(tmp_path / "faces")))
    instruments = load_instruments(plan)
    check_fit(plan, instruments, tmp_path / "training")
    torn.write_bytes(torn.read_bytes()[:-50])
    with pytest.raises(UserError, match=r"0\.png: cannot be read as an image"):
        check_fit(plan, instruments, tmp_path / "training")
