"""A compiled U-Net makes the same pictures, whatever a method does to it."""

import pytest
import torch
from torch import nn

from fairbench.errors import UserError
from fairbench.finetuning.adapters import adapter
from fairbench.finetuning.gradient import adjusted_gradient
from fairbench.models import loading
from fairbench.models.hooks import Hooks, attached
from fairbench.models.loading import load_model
from fairbench.models.text_to_image import Defaults, TextToImage
from tests.tiny import save_tiny, tiny_pipeline

PROMPTS, SEEDS = ["a face", "b"], [1, 2]


@pytest.fixture(scope="module")
def models():
    """The tiny model as it is, and traced by torch.compile; the code generator would take minutes."""
    plain, compiled = (TextToImage(tiny_pipeline(), "tiny", Defaults(steps=2, guidance=3.0)) for _ in "ab")
    compiled.pipeline.unet.compile(backend="eager")
    compiled.generate(PROMPTS, SEEDS)
    return plain, compiled


def same(models, hooks=Hooks()):  # noqa: B008 frozen
    """Return the picture that both make."""
    plain, compiled = (model.generate(PROMPTS, SEEDS, hooks=hooks) for model in models)
    torch.testing.assert_close(compiled, plain, atol=1e-5, rtol=0)
    return plain


def test_hooks_that_come_after_the_compilation_are_heeded(models):
    before = same(models)
    for shift in (5, -5):
        hooked = same(models, Hooks(modules={"mid_block": lambda output, step, shift=shift: output + shift}))
        assert not torch.equal(hooked, before)
    assert torch.equal(same(models), before)


def test_hooks_that_are_hung_by_hand_are_heeded(models):
    hooks = Hooks(modules={"mid_block": lambda output, step: output * 3})
    seen = []
    for model in models:
        with attached(model.pipeline.unet, hooks, None), torch.no_grad():
            seen.append(model.predict_noise(model.noise(SEEDS), torch.tensor(5), model.encode(PROMPTS), 1.0))
    torch.testing.assert_close(*seen)


@pytest.mark.slow
@pytest.mark.parametrize("tune", ["text_encoder", "unet"])
def test_adapters_work_inside_it_and_have_the_same_gradient(models, tune):
    before, gradients = same(models), []
    with adapter(models[0], tune, 2, 0) as one, adapter(models[1], tune, 2, 0) as other:
        for tuned in (one, other):
            for parameter in tuned.parameters.values():
                parameter.data.add_(0.3)
        changed = same(models)
        with one.off(), other.off():
            assert torch.equal(same(models), before)
        assert torch.equal(same(models), changed) and not torch.equal(changed, before)
        for model, tuned in zip(models, (one, other), strict=True):
            with torch.no_grad():
                trajectory = model.rollout(model.encode(PROMPTS), SEEDS, steps=2, guidance=3.0, keep=True)
            ones, weights = torch.ones_like(trajectory.final), torch.ones(2)
            conditioning = model.encode(PROMPTS)
            adjusted_gradient(model, trajectory, conditioning, ones, weights, guidance=3.0)
            gradients.append({name: parameter.grad for name, parameter in tuned.parameters.items()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient)
    assert torch.equal(same(models), before)


def test_it_is_an_option_of_the_model(tmp_path, monkeypatch):
    compiled, checked = [], []
    monkeypatch.setattr(nn.Module, "compile", lambda self, **_: compiled.append(type(self).__name__))
    monkeypatch.setattr(loading, "_check_compiler", checked.append)
    place = str(save_tiny(tmp_path / "tiny"))
    load_model(place)
    assert (compiled, checked) == ([], [])
    load_model(place, compile=True)
    assert (compiled, checked) == (["UNet2DConditionModel"], [torch.device("cpu")])
    with pytest.raises(UserError, match="compile=yes: write true or false"):
        load_model(place, compile="yes")


def test_a_machine_that_cannot_compile_says_so_before_anything_is_made(tmp_path, monkeypatch):
    def fails(function):
        raise RuntimeError("no working C++ compiler\nwas found")

    monkeypatch.setattr(torch, "compile", fails)
    place = str(save_tiny(tmp_path / "tiny"))
    with pytest.raises(UserError, match=r"compile=true: torch.compile does not work here: no working C"):
        load_model(place, compile=True)
