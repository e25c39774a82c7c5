from functools import partial

import pytest
import torch

from fairbench.errors import CostWarning, UserError
from fairbench.finetuning import memory
from fairbench.finetuning.memory import GradientPortions, portions
from fairbench.methods.biased_dft import BiasedDFT
from fairbench.methods.draft_k import DraftK
from fairbench.methods.naive_dft import NaiveDFT
from fairbench.models import capacity
from fairbench.models.hooks import Conditioning
from tests.finetuning.stand_ins import make_context, tiny_model
from tests.models.memories import Card, OutOfMemory


@pytest.fixture(autouse=True)
def nothing_to_clear(monkeypatch):
    """Looking for garbage takes long."""
    monkeypatch.setattr(capacity, "clear_device_cache", lambda garbage_collection: None)


SMALL = {"prompts_per_update": 2, "images_per_prompt": 4, "noises_per_prompt": 4, "steps": 4}


def fit(directory, model, method=BiasedDFT, log=lambda row: None, **settings):
    context = make_context(directory, model, updates=2, log=log)
    own, kind = (method.keywords, method.func) if isinstance(method, partial) else ({}, method)
    return kind(kind.Config(**SMALL, **own, **settings)).fit(context).tensors


def limited(model, monkeypatch, rows, without=10**6):
    """Let the U-Net run out of memory with more than so many images with a gradient, or without."""

    def enters(unet, args):
        learning = torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
        if len(args[0]) / 2 > (rows if learning else without):
            raise OutOfMemory

    model.pipeline.unet.register_forward_pre_hook(enters)


def test_on_a_cpu_numbers_are_taken_and_the_rest_is_a_matter_of_cache():
    model = tiny_model()
    never = lambda latents: 1 / 0  # noqa: E731
    assert portions(model, 24, never, 7, 5) == GradientPortions(7, 7, 5, 24)
    assert portions(model, 24, never, "auto", "auto") == GradientPortions(48, 192, 24, 24)
    assert portions(model, 10**6, never, "auto", "auto") == GradientPortions(48, 192, 256, 10**6)
    assert model.unet_rows == 0  # nothing was tried out


def test_on_a_card_it_is_what_fits(monkeypatch):
    model = tiny_model()
    limited(model, monkeypatch, 40)
    monkeypatch.setattr(memory, "MOST", 128)
    before = model.unet_rows
    found = portions(model, 24, lambda latents: latents.sum(), "auto", "auto", memory=Card(10**9))
    assert found == GradientPortions(rows=32, graphs=4, pictures=24, sampled=24)
    assert not model.pipeline.unet.is_gradient_checkpointing and model.unet_rows == before


def test_the_unet_is_checkpointed_by_itself_where_not_one_row_fits_otherwise(monkeypatch):
    model = tiny_model()
    unet, inner = model.pipeline.unet, model.predict_noise

    def predict_noise(*args, **kwargs):
        if not unet.is_gradient_checkpointing:
            raise OutOfMemory
        return inner(*args, **kwargs)

    monkeypatch.setattr(model, "predict_noise", predict_noise)
    learn = lambda latents: latents.sum()  # noqa: E731
    monkeypatch.setattr(memory, "MOST", 20)
    assert portions(model, 8, learn, "auto", 4, memory=Card(10**9)).rows == 20
    with pytest.raises(UserError, match="cpu has too little free memory for one image to be finetuned on"):
        portions(model, 8, learn, "auto", 4, False, memory=Card(10**9))


def saved_bytes(model, checkpointing):
    """Return what a pass keeps for its way back, the gradient that it yields, and its size."""
    portions(model, 4, lambda latents: latents.sum(), 4, 4, checkpointing)
    embeddings = model.encode(["a face"] * 4)
    leaf = Conditioning(embeddings.conditional.detach().requires_grad_(), embeddings.unconditional.detach())
    kept = []

    def keep(tensor):
        kept.append(tensor.nbytes)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        prediction = model.predict_noise(model.noise(range(4)), torch.tensor(5), leaf, 3.0)
    prediction.square().sum().backward()
    return sum(kept), leaf.conditional.grad


def test_checkpointing_keeps_less_and_changes_nothing():
    model = tiny_model()
    plain, gradient = saved_bytes(model, False)
    less, same = saved_bytes(model, True)
    assert less < plain / 2
    assert torch.equal(same, gradient)


def test_a_checkpointed_training_is_the_same_and_leaves_the_model_as_it_was(tmp_path, monkeypatch):
    monkeypatch.setenv("FAIRBENCH_CACHE", "off")
    model = tiny_model()
    plain = fit(tmp_path / "plain", model)
    again = fit(tmp_path / "again", model, checkpointing=True)
    assert not model.pipeline.unet.is_gradient_checkpointing
    assert all(torch.equal(again[name], plain[name]) for name in plain)


@pytest.mark.filterwarnings("ignore::fairbench.errors.CostWarning")
@pytest.mark.parametrize(("rows", "without"), [(1, 10**6), (3, 2)])
@pytest.mark.parametrize("method", [BiasedDFT, NaiveDFT, partial(DraftK, noisings=2)])
def test_an_update_that_runs_out_of_memory_is_taken_again_in_smaller_portions(
    tmp_path, monkeypatch, rows, without, method
):
    monkeypatch.setenv("FAIRBENCH_CACHE", "off")
    model = tiny_model()
    plain = fit(tmp_path / "plain", model, method)
    limited(model, monkeypatch, rows, without)
    with pytest.warns(CostWarning, match="memory ran out: update 1 is taken again, in portions of half"):
        again = fit(tmp_path / "again", model, method)
    for name in plain:
        torch.testing.assert_close(again[name], plain[name], atol=1e-4, rtol=1e-3)


@pytest.mark.filterwarnings("ignore::fairbench.errors.CostWarning")
def test_a_card_too_small_for_the_gradient_of_one_image_is_one_line(tmp_path, monkeypatch):
    model = tiny_model()
    limited(model, monkeypatch, 0)
    with pytest.raises(UserError, match="cpu has too little free memory for one image to be finetuned on"):
        fit(tmp_path, model)


@pytest.mark.filterwarnings("ignore::fairbench.errors.CostWarning")
def test_what_fits_with_a_checkpointed_unet_only_is_finetuned_on(tmp_path, monkeypatch):
    """Also where memory runs out in the middle of a training; an interruption leaves the model as it was."""
    monkeypatch.setenv("FAIRBENCH_CACHE", "off")
    model = tiny_model()
    plain = fit(tmp_path / "plain", model)
    unet = model.pipeline.unet

    def enters(module, args):
        if torch.is_grad_enabled() and not (
            unet.is_gradient_checkpointing or torch.is_inference_mode_enabled()
        ):
            raise OutOfMemory

    hook = unet.register_forward_pre_hook(enters)
    with pytest.warns(CostWarning, match="update 1 is taken again, with a checkpointed U-Net"):
        again = fit(tmp_path / "again", model)
    for name in plain:
        torch.testing.assert_close(again[name], plain[name], atol=1e-4, rtol=1e-3)
    assert not unet.is_gradient_checkpointing
    with pytest.raises(UserError, match="too little free memory"):
        fit(tmp_path / "never", model, checkpointing=False)
    hook.remove()
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "stopped", model, log=stop, checkpointing=True)
    assert not unet.is_gradient_checkpointing


def stop(row):
    raise KeyboardInterrupt
