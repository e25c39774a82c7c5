"""An adapter goes in as the stock loader puts it in, and comes out leaving no bit changed."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from fairbench.errors import UserError
from fairbench.models.text_to_image import Defaults, TextToImage
from fairbench.models.weights import lora_weights, replaced_weights
from tests.tiny import tiny_pipeline

TEXT = "text_encoder.encoder.layers.0.self_attn.q_proj"


def make() -> TextToImage:
    return TextToImage(tiny_pipeline(), "tiny", Defaults(steps=3, guidance=3.0))


def adapter(model: TextToImage) -> dict[str, torch.Tensor]:
    """Random LoRA of unequal ranks on linear and convolution layers of both networks."""
    state, generator = {}, torch.Generator().manual_seed(0)
    for component in ("text_encoder", "unet"):
        for name, module in getattr(model.pipeline, component).named_modules():
            if name.endswith(("q_proj", "fc1", "to_k", "to_out.0", "conv1")):
                assert isinstance(module, nn.Linear | nn.Conv2d)
                out, into, *kernel = module.weight.shape
                rank = 2 + len(state) % 3
                down = torch.randn(rank, into, *kernel, generator=generator)
                up = torch.randn(out, rank, *[1] * len(kernel), generator=generator)
                state |= {
                    f"{component}.{name}.lora_A.weight": 0.1 * down,
                    f"{component}.{name}.lora_B.weight": 0.1 * up,
                }
    return state


def snapshot(model: TextToImage) -> dict[str, object]:
    networks = {"text_encoder": model.pipeline.text_encoder, "unet": model.pipeline.unet}
    return {
        "attributes": {name: set(vars(network)) for name, network in networks.items()},
        "modules": {name: [*map(id, network.modules())] for name, network in networks.items()},
        "weights": {
            f"{name}.{key}": (
                weight.data_ptr(),
                weight.requires_grad,
                weight.stride(),
                weight.numpy().tobytes(),
            )
            for name, network in networks.items()
            for key, weight in network.named_parameters()
        },
    }


def test_the_adapter_acts_as_through_the_stock_loader_and_leaves_no_trace() -> None:
    model, stock = make(), tiny_pipeline()
    state = adapter(model)
    stock.load_lora_weights(dict(state))
    expected = TextToImage(stock, "stock").generate(["a face"], [1], steps=3, guidance=3.0)
    original, before = model.generate(["a face"], [1]), snapshot(model)
    with lora_weights(model, state):
        adapted = model.generate(["a face"], [1])
        assert not any(weight.requires_grad for weight in model.pipeline.text_encoder.parameters())
    assert_close(adapted, expected, atol=1e-6, rtol=0)
    assert (adapted - original).abs().max() > 0.01
    assert snapshot(model) == before
    assert torch.equal(model.generate(["a face"], [1]), original)


@pytest.mark.parametrize("level", ["", "text_model."])
def test_both_layouts_of_clip_are_understood(level: str) -> None:
    model = make()
    state = {key: value for key, value in adapter(model).items() if key.startswith("text_encoder")}
    with lora_weights(model, state):
        expected = model.encode(["a face"]).conditional
    renamed = {key.replace("text_encoder.", f"text_encoder.{level}"): value for key, value in state.items()}
    with lora_weights(model, renamed):
        assert_close(model.encode(["a face"]).conditional, expected)


def test_the_product_is_what_is_added() -> None:
    model = make()
    layer = model.pipeline.text_encoder.encoder.layers[0].self_attn.q_proj
    down, up, rows = torch.randn(3, 16), torch.randn(16, 3), torch.randn(5, 16)
    expected = rows @ (layer.weight + up @ down).T + layer.bias
    with lora_weights(model, {f"{TEXT}.lora_A.weight": down, f"{TEXT}.lora_B.weight": up}):
        adapted = model.pipeline.text_encoder.encoder.layers[0].self_attn.q_proj(rows)
    assert_close(adapted, expected, atol=1e-4, rtol=1e-4)


def test_the_model_is_restored_when_the_work_inside_fails() -> None:
    model = make()
    before = snapshot(model)
    with pytest.raises(ZeroDivisionError), lora_weights(model, adapter(model)):
        _ = 1 / 0
    assert snapshot(model) == before


def test_a_second_adapter_on_top_is_refused_and_the_first_stays() -> None:
    model = make()
    state = adapter(model)
    with lora_weights(model, state):
        expected = model.encode(["a face"]).conditional
        with pytest.raises(RuntimeError, match="carries an adapter already"), lora_weights(model, state):
            pass
        assert_close(model.encode(["a face"]).conditional, expected)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (
            {"text_encoder.encoder.layers.7.mlp.fc1.lora_A.weight": (2, 16)},
            "has no layer 'encoder.layers.7.mlp.fc1'",
        ),
        ({f"{TEXT}.lora_A.weight": (2, 32), f"{TEXT}.lora_B.weight": (16, 2)}, r"has the shape \(16, 16\)"),
        ({f"{TEXT}.lora_A.weight": (2, 16), f"{TEXT}.lora_B.weight": (16, 3)}, "does not fit tiny"),
        ({f"{TEXT}.lora_A.weight": (2, 16)}, "does not fit tiny"),
        ({"unet.conv_in.lora_A.weight": (2, 4), "unet.conv_in.lora_B.weight": (8, 2)}, "does not fit tiny"),
        ({f"{TEXT}.weight": (16, 16)}, "is not a weight of a LoRA adapter"),
        ({"transformer.x.lora_A.weight": (2, 16)}, "is not a weight of a LoRA adapter"),
    ],
)
def test_an_adapter_that_does_not_fit_is_refused(state: dict[str, tuple[int, ...]], message: str) -> None:
    model = make()
    before = snapshot(model)
    tensors = {key: torch.ones(shape) for key, shape in state.items()}
    with pytest.raises(UserError, match=message), lora_weights(model, tensors):
        pass
    assert snapshot(model) == before


def test_whole_matrices_act_while_they_are_in_and_leave_no_trace() -> None:
    model, stock = make(), tiny_pipeline()
    generator = torch.Generator().manual_seed(1)
    state = {
        f"unet.{name}": weight + 0.3 * torch.randn(weight.shape, generator=generator)
        for name, weight in stock.unet.named_parameters()
        if "attn2.to_" in name
    }
    stock.unet.load_state_dict({k.removeprefix("unet."): v for k, v in state.items()}, strict=False)
    expected = TextToImage(stock, "stock").generate(["a face"], [1], steps=3, guidance=3.0)
    original, before = model.generate(["a face"], [1]), snapshot(model)
    with pytest.raises(ZeroDivisionError), replaced_weights(model, state):
        edited = model.generate(["a face"], [1])
        assert not any(weight.requires_grad for weight in model.pipeline.unet.parameters())
        _ = 1 / 0
    assert torch.equal(edited, expected)
    assert (edited - original).abs().max() > 0.001
    assert snapshot(model) == before
    assert torch.equal(model.generate(["a face"], [1]), original)


@pytest.mark.parametrize(
    ("key", "shape", "message"),
    [
        ("unet.conv_in.wait", (8, 4, 3, 3), "its unet has no 'conv_in.wait'"),
        ("unet.nowhere.weight", (8, 4), "its unet has no 'nowhere.weight'"),
        ("unet.conv_in.weight", (8, 4), r"has the shape \(8, 4, 3, 3\), not \(8, 4\)"),
        ("vae.conv_in.weight", (8, 4), "is a weight of neither text_encoder nor unet"),
    ],
)
def test_matrices_that_do_not_fit_are_refused(key: str, shape: tuple[int, ...], message: str) -> None:
    model = make()
    before = snapshot(model)
    with pytest.raises(UserError, match=message), replaced_weights(model, {key: torch.ones(shape)}):
        pass
    assert snapshot(model) == before
