"""The fifth hook point, the weights: put an adapter or whole matrices into a model, and take them out.

The original layers are set aside and put back, never computed with, so the model is bit-identical afterwards.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

from peft import LoraConfig, inject_adapter_in_model, set_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from fairbench.errors import UserError
from fairbench.models.text_to_image import TextToImage

COMPONENTS = ("text_encoder", "unet")
DOWN, UP = ".lora_A.weight", ".lora_B.weight"


@contextmanager
def lora_weights(model: TextToImage, state: Mapping[str, Tensor]) -> Iterator[None]:
    r"""Add :math:`BA` to the weights that ``state`` names, for as long as the context lasts.

    Parameters
    ----------
    model : TextToImage
        Without an adapter so far; unchanged afterwards, to the bit.
    state : mapping
        The diffusers format: ``text_encoder.<module>.lora_A.weight`` (r x in) and ``lora_B`` (out x r), also
        for ``unet``. The scale is 1: alpha is taken to be r.

    Raises
    ------
    UserError
        If the adapter was made for a model of other layers or shapes.
    """
    layers = {component: _layers(model, component, state) for component in COMPONENTS}
    with ExitStack() as stack:
        for component, tensors in layers.items():
            if tensors:
                stack.enter_context(_injected(getattr(model.pipeline, component), tensors))
        yield


@contextmanager
def replaced_weights(model: TextToImage, state: Mapping[str, Tensor]) -> Iterator[None]:
    """Let the matrices of ``state`` take the place of the model's own, for as long as the context lasts.

    Parameters
    ----------
    model : TextToImage
        Unchanged afterwards, to the bit.
    state : mapping
        ``unet.<parameter>`` or ``text_encoder.<parameter>`` -> what to put there, of the same shape.

    Raises
    ------
    UserError
        If the model has no such parameter, or one of another shape.
    """
    places = {key: _place(model, key, tensor) for key, tensor in state.items()}
    originals = {key: module._parameters[name] for key, (module, name) in places.items()}
    try:
        for key, (module, name) in places.items():
            replacement = state[key].to(originals[key])
            module._parameters[name] = nn.Parameter(replacement, requires_grad=False)
        yield
    finally:
        for key, (module, name) in places.items():
            module._parameters[name] = originals[key]


def _place(model: TextToImage, key: str, tensor: Tensor) -> tuple[nn.Module, str]:
    """Return the module that holds the parameter ``key``, and its name in it."""
    component, _, rest = key.partition(".")
    path, _, name = rest.rpartition(".")
    if component not in COMPONENTS:
        raise UserError(f"{key!r} is a weight of neither {' nor '.join(COMPONENTS)}")
    module = dict(getattr(model.pipeline, component).named_modules()).get(path)
    parameter = None if module is None else module._parameters.get(name)
    if module is None or parameter is None:
        raise UserError(f"the weights do not fit {model.name}: its {component} has no {rest!r}")
    if parameter.shape != tensor.shape:
        raise UserError(
            f"the weights do not fit {model.name}: {rest!r} of its {component} has the shape "
            f"{tuple(parameter.shape)}, not {tuple(tensor.shape)}"
        )
    return module, name


def _layers(model: TextToImage, component: str, state: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Return module name -> its two matrices, for the modules of one component, all of them known to fit."""
    network = getattr(model.pipeline, component)
    layers: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for key, tensor in state.items():
        prefix, _, rest = key.partition(".")
        if prefix not in COMPONENTS or not rest.endswith((DOWN, UP)):
            raise UserError(f"{key!r} is not a weight of a LoRA adapter in the diffusers format")
        if prefix == component:
            half = DOWN if rest.endswith(DOWN) else UP
            layers[_local_name(network, rest.removesuffix(half))][half] = tensor
    modules = dict(network.named_modules())
    for name, halves in layers.items():
        weight = getattr(modules.get(name), "weight", None)
        if weight is None:
            raise UserError(f"the adapter does not fit {model.name}: its {component} has no layer {name!r}")
        if not _fits(weight, halves):
            shapes = sorted(tuple(half.shape) for half in halves.values())
            raise UserError(
                f"the adapter does not fit {model.name}: its {component} layer {name!r} has the shape "
                f"{tuple(weight.shape)}, the adapter's matrices have {shapes}"
            )
    return dict(layers)


def _local_name(network: nn.Module, name: str) -> str:
    """Return ``name`` as this transformers has it: version 5 took CLIP's ``text_model`` level away."""
    short = name.removeprefix("text_model.")
    return f"text_model.{short}" if hasattr(network, "text_model") else short


def _fits(weight: Tensor, halves: dict[str, Tensor]) -> bool:
    if set(halves) != {DOWN, UP}:
        return False
    down, up = halves[DOWN].shape, halves[UP].shape
    return len(down) == len(up) == weight.ndim and (up[0], down[1]) == weight.shape[:2] and up[1] == down[0]


@contextmanager
def _injected(network: nn.Module, layers: dict[str, dict[str, Tensor]]) -> Iterator[None]:
    if any(isinstance(module, BaseTunerLayer) for module in network.modules()):
        raise RuntimeError(f"{type(network).__name__} carries an adapter already; take it off first")
    originals = {name: network.get_submodule(name) for name in layers}
    attributes = set(vars(network))
    # an exact name is the regular expression of a suffix; ^ keeps it from matching any other layer
    ranks = {f"^{name}": len(halves[DOWN]) for name, halves in layers.items()}
    config = LoraConfig(
        target_modules=list(layers), rank_pattern=ranks, alpha_pattern=ranks, inference_mode=True
    )
    tensors = {name + half: tensor for name, halves in layers.items() for half, tensor in halves.items()}
    try:
        inject_adapter_in_model(config, network)
        set_peft_model_state_dict(network, tensors)
        yield
    finally:
        for name, module in originals.items():
            parent, _, child = name.rpartition(".")
            setattr(network.get_submodule(parent), child, module)
        for attribute in set(vars(network)) - attributes:
            delattr(network, attribute)
