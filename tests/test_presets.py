import pytest

from fairbench.attributes import AttributeSpace, TargetDistribution
from fairbench.config import load_config, make_config
from fairbench.errors import UserError
from fairbench.presets import list_presets, load_preset, preset_for
from fairbench.runs.plan import make_plan

EXPERIMENTS = [f"exp-{number}" for number in range(1, 7)]
# reference: table of section 4 of the paper's facts; N, lambda_img, factors for a change and in the face,
# lambda_face, updates, test images per prompt
AUTHORS = {
    "exp-1": (24, 8, 0.2, 0.2, 1, 10_000, 60, ("gender",)),
    "exp-2": (24, 8, 0.2, 0.2, 1, 10_000, 60, ("gender",)),
    "exp-3": (32, 8, {"gender": 0.2, "race": 0.6}, {"gender": 0.2, "race": 0.3}, 0.1, 15_000, 160,
              ("gender", "race")),
    "exp-4": (40, 8, {"gender": 0.2, "race": 0.6, "age": 0.6}, {"gender": 0.2, "race": 0.3, "age": 0.3}, 0.1,
              15_000, 160, ("gender", "race", "age")),
    "exp-5": (40, 8, {"gender": 0.2, "race": 0.6}, {"gender": 0.2, "race": 0.3}, 0.1, 15_000, 160,
              ("gender", "race")),
    "exp-6": (32, 6, 0.6, 0.3, 0.1, 12_000, 80, ("race",)),
}  # fmt: skip


def test_there_is_one_of_each_experiment_for_both_families():
    assert list_presets() == sorted([*EXPERIMENTS, *(f"{name}-portraits" for name in EXPERIMENTS)])


@pytest.mark.parametrize("name", list_presets())
def test_a_preset_is_a_plan_that_can_be_made(name):
    plan = make_plan(make_config(load_preset(name).settings, name))
    assert plan.updates == plan.config.updates and plan.training and plan.test
    assert load_preset(name).summary.endswith(".")


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_settings_are_those_of_the_authors(name):
    config = make_config(load_preset(name).settings)
    options = config.method_options
    found = [options[key] for key in ("images_per_prompt", "image_weight", "change_factor", "region_factor")]
    found += [options["face_weight"], config.updates, config.images_per_prompt, config.attributes]
    assert tuple(found) == AUTHORS[name]
    assert config.method == ("prompt_prefix" if name == "exp-2" else "biased_dft")
    assert options.get("rank") == (None if name == "exp-2" else 50)
    assert options.get("soft_tokens") == ("random" if name == "exp-2" else None)
    assert (options["learning_rate"], options["ema_decay"], options["confidence"]) == (5e-5, 0.996, 0.8)
    assert (options["mode"], options["clip"], options["guidance"], options["steps"]) == (
        "official", None, 7.5, 21
    )  # fmt: skip
    assert (config.steps, config.guidance, config.seed) == (30, 7.5, 5991)
    assert config.model_options == {"scheduler": "dpm"}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_portraits_variant_balances_the_same_thing(name):
    large, small = (make_config(load_preset(each).settings) for each in (name, f"{name}-portraits"))
    for key in ("method", "attributes", "target", "suite"):
        assert getattr(large, key) == getattr(small, key)
    for key in ("image_weight", "change_factor", "confidence"):
        assert large.method_options[key] == small.method_options[key]
    assert small.model == "portraits"


def test_age_is_to_be_three_quarters_young():
    config = make_config(load_preset("exp-4").settings)
    target = TargetDistribution.parse(config.target, AttributeSpace(config.attributes))
    assert target.probabilities["age"] == (0.75, 0.25)


def test_a_preset_is_an_ordinary_settings_file(tmp_path):
    preset = load_preset("exp-3-portraits")
    (tmp_path / "mine.yaml").write_text(preset.text)
    assert load_config(tmp_path / "mine.yaml") == make_config(preset.settings)


@pytest.mark.parametrize(
    ("name", "model", "family", "found"),
    [
        ("exp-1", None, False, "exp-1"),
        ("exp-1", "org/model@main", False, "exp-1"),
        ("exp-1", "portraits", True, "exp-1-portraits"),
        ("exp-1-portraits", None, False, "exp-1-portraits"),
        ("exp-1-portraits", "portraits", True, "exp-1-portraits"),
    ],
)
def test_the_variant_follows_the_model(name, model, family, found):
    assert preset_for(name, model, family).name == found


def test_a_preset_for_another_family_and_an_unknown_one_are_refused():
    with pytest.raises(UserError, match=r"for org/model@main use --preset exp-1$"):
        preset_for("exp-1-portraits", "org/model@main", False)
    with pytest.raises(UserError, match="unknown preset 'exp1': did you mean 'exp-1'"):
        load_preset("exp1")


def test_the_mixed_suite_shows_every_kind_about_equally_often():
    suite = make_plan(make_config({"suite": "several_concepts", "method": "original"})).suite
    for split in ("train", "test"):
        texts = [prompt.text for prompt in suite.prompts(split)]
        playing = [text for text in texts if "person playing" in text]
        occupations = [text for text in texts if ", a person" in text]
        plain = [text for text in occupations if text.endswith(", a person")]
        counts = (len(playing), len(plain), len(occupations) - len(plain))
        assert max(counts) <= 1.1 * min(counts)
        assert 4 * len(playing) == len(texts)


def test_the_mixed_suite_trains_on_nothing_that_other_suites_test():
    from fairbench.suites import load_suite

    mixed = load_suite("several_concepts")
    for name in ("occupations", "sports", "descriptors"):
        suite = load_suite(name)
        for split, elsewhere in (("train", "test"), ("test", "train")):
            for prompt in mixed.prompts(split):
                text = f"{prompt.text},"
                for concept in suite.splits[elsewhere]:
                    assert f"of a {concept}," not in text and f"playing {concept}," not in text
