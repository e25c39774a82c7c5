from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError

from fairbench.errors import UserError
from fairbench.finetuning import engine
from fairbench.methods.biased_dft import BiasedDFT
from fairbench.models.hooks import Hooks
from fairbench.models.text_to_image import TextToImage
from tests.finetuning.stand_ins import make_context, tiny_model

QUICK = {"rank": 4, "prompts_per_update": 2, "images_per_prompt": 4, "timesteps_per_update": 2}


def method(**changes):
    settings = QUICK | {"noises_per_prompt": 4} | changes
    return BiasedDFT(BiasedDFT.Config(**settings))


def generated(model, prompts=("face of a nurse", "face of a cook")):
    return model.generate(prompts, range(len(prompts)))


@pytest.mark.parametrize("mode", ["standardised", "raw", "official"])
def test_every_update_moves_the_images_to_the_target(tmp_path, mode):
    rows = []
    context = make_context(tmp_path, target="gender=0/1", updates=4, log=rows.append)
    # one prompt and no more noise than images: every update sees the same ones
    context = replace(context, prompts=context.prompts[:1])
    method(mode=mode, image_weight=0, learning_rate=0.05, timesteps_per_update=None).fit(context)
    losses = [row["loss_alignment"] for row in rows]
    assert losses == sorted(losses, reverse=True) and losses[-1] < 0.98 * losses[0]
    assert [row["update"] for row in rows] == [1, 2, 3, 4]
    expected = {"loss", "loss_semantics", "gradient_norm", "clipped", "nonfinite", "gap_gender", "seconds"}
    assert expected <= rows[0].keys()


def test_the_model_is_left_as_it_was(tmp_path):
    model = tiny_model()
    before = generated(model)
    fitted = method(learning_rate=0.02)
    intervention = fitted.fit(make_context(tmp_path, model))
    assert torch.equal(generated(model), before)
    with fitted.apply(intervention, model) as hooks:
        assert hooks == Hooks()
        assert not torch.equal(generated(model), before)
    assert torch.equal(generated(model), before)


def test_an_interrupted_training_ends_bit_identical(tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "SAVE_EVERY", 2)
    whole = method().fit(make_context(tmp_path / "whole", updates=5))

    def interrupt(row):
        if row["update"] == 3:
            raise KeyboardInterrupt

    parts = make_context(tmp_path / "parts", updates=5, log=interrupt)
    with pytest.raises(KeyboardInterrupt):
        method().fit(parts)
    rows = []
    parts = method().fit(replace(parts, log=rows.append))
    assert [row["update"] for row in rows] == [3, 4, 5]
    assert all(torch.equal(parts.tensors[name], whole.tensors[name]) for name in whole.tensors)
    assert parts.settings == whole.settings


def test_more_timesteps_than_steps_are_refused(tmp_path):
    with pytest.raises(UserError, match="only 3 denoising steps"):
        method(timesteps_per_update=6).fit(make_context(tmp_path))


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("updates", 0),
        ("rank", -1),
        ("learning_rate", 0),
        ("learning_rate", float("nan")),
        ("timesteps_per_update", 0),
        ("images_per_prompt", 1),
        ("prompts_per_update", 0),
        ("steps", 0),
        ("confidence", 1.1),
        ("change_factor", -0.1),
        ("image_weight", -1),
        ("ema_decay", 1),
        ("clip", 0),
        ("mode", "standardized"),
        ("noises_per_prompt", 7),
        ("unknown", 1),
    ],
)
def test_bad_settings_are_refused(option, value):
    with pytest.raises(ValidationError):
        BiasedDFT.Config(**{option: value})


def test_the_model_says_how_fast_and_how_much_it_learns_unless_the_user_does(tmp_path):
    model = tiny_model()  # which says nothing: the settings of the paper
    assert BiasedDFT(BiasedDFT.Config()).on(model).config.model_dump().items() >= {
        ("rank", 50), ("learning_rate", 5e-5)
    }  # fmt: skip
    model.defaults = model.defaults.model_copy(update={"rank": 3, "learning_rate": 0.5})
    own = BiasedDFT(BiasedDFT.Config()).on(model).config
    chosen = BiasedDFT(BiasedDFT.Config(rank=7, learning_rate=0.1)).on(model).config
    assert [(each.rank, each.learning_rate) for each in (own, chosen)] == [(3, 0.5), (7, 0.1)]
    assert BiasedDFT(BiasedDFT.Config(tune="prefix")).on(model).config.rank is None


def test_the_model_says_how_steps_are_weighted_unless_the_user_does(tmp_path):
    model = tiny_model()
    model.defaults = model.defaults.model_copy(update={"step_weights": "raw"})
    assert method().fit(make_context(tmp_path / "its own", model)).settings["mode"] == "raw"
    chosen = method(mode="standardised").fit(make_context(tmp_path / "chosen", model))
    assert chosen.settings["mode"] == "standardised"
    assert method().fit(make_context(tmp_path / "plain")).settings["mode"] == "standardised"


def test_what_other_runs_have_cached_does_not_change_a_bit(tmp_path, monkeypatch):
    """The cache is filled by runs with other batches, which visit the prompts in other company."""

    def learnt(place, updates=3, **changes):
        options = {"learning_rate": 0.02, **changes}
        return method(**options).fit(make_context(tmp_path / place, updates=updates)).tensors

    alone = learnt("alone")
    monkeypatch.setenv("FAIRBENCH_CACHE", str(tmp_path / "cache"))
    learnt("other", updates=5, prompts_per_update=1, mode="raw")
    assert len([*(tmp_path / "cache" / "originals").iterdir()]) == 5  # one for each prompt
    rows = []
    monkeypatch.setattr(TextToImage, "generate", lambda *_, **__: rows.append("made"))
    cached = learnt("cached")
    assert rows == [] and all(torch.equal(cached[name], alone[name]) for name in alone)
