"""One training loop for every network of the build: AdamW, cosine, averaged weights, exact resume."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from safetensors.torch import load_file, save
from torch import Tensor, nn

from fairbench.storage import atomic_write_bytes, atomic_write_json

WARM_UP = 100
SAVE_EVERY = 100
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
console = Console(stderr=True)


@dataclass(frozen=True)
class Plan:
    """How long and how fast one network trains; ``seed`` fixes its first weights and its batches."""

    steps: int
    learning_rate: float
    weight_decay: float = 0.01
    ema: float = 0.998
    seed: int = 0


def train(name: str, network: nn.Module, loss: Callable[[int], Tensor], plan: Plan, directory: Path) -> None:
    """Minimise ``loss(step)`` over the parameters of ``network``, which ends with its averaged weights.

    The network must be on ``DEVICE``. ``loss`` must depend on nothing but the network and the step, so that
    an interrupted training resumes exactly.
    """
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(
        parameters, lr=plan.learning_rate, weight_decay=plan.weight_decay, betas=(0.9, 0.98)
    )
    average = [parameter.detach().clone() for parameter in parameters]
    first = _resume(directory / name, network, optimiser, parameters, average)
    started, recent = time.monotonic(), 0.0
    network.train()
    for step in range(first, plan.steps):
        for group in optimiser.param_groups:
            group["lr"] = plan.learning_rate * _schedule(step, plan.steps)
        value = loss(step)
        optimiser.zero_grad(set_to_none=True)
        value.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        decay = min(plan.ema, (1 + step) / (10 + step))
        torch._foreach_lerp_(average, [parameter.detach() for parameter in parameters], 1 - decay)
        recent = 0.98 * recent + 0.02 * value.item() if step > first else value.item()
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == plan.steps:
            _checkpoint(directory / name, network, optimiser, parameters, average, step + 1)
            left = (time.monotonic() - started) / (step + 1 - first) * (plan.steps - step - 1)
            console.print(
                f"{name}: step {step + 1} of {plan.steps}, loss {recent:.4f}, {left / 60:.1f} min left"
            )
    with torch.no_grad():
        for parameter, mean in zip(parameters, average, strict=True):
            parameter.copy_(mean)
    network.eval()


def half_precision() -> torch.autocast:
    """Return the context in which forward passes run in bfloat16, where the processor gains from it."""
    return torch.autocast(DEVICE.type, torch.bfloat16)


def batch(count: int, size: int, seed: int, step: int) -> tuple[Tensor, torch.Generator]:
    """Return the indices of the batch of ``step`` and the generator for everything random in it."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
    return torch.randint(count, (size,), generator=generator), generator


def _schedule(step: int, steps: int) -> float:
    warm = min(1.0, (step + 1) / WARM_UP)
    return warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps)))


def _checkpoint(
    stem: Path,
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    parameters: list[nn.Parameter],
    average: list[Tensor],
    step: int,
) -> None:
    tensors = {f"network.{key}": value.detach().contiguous() for key, value in network.state_dict().items()}
    for index, (parameter, mean) in enumerate(zip(parameters, average, strict=True)):
        tensors[f"average.{index}"] = mean.contiguous()
        for key in ("exp_avg", "exp_avg_sq", "step"):
            tensors[f"optimiser.{index}.{key}"] = optimiser.state[parameter][key].contiguous()
    atomic_write_bytes(
        stem.with_suffix(".safetensors"), save({key: value.clone() for key, value in tensors.items()})
    )
    atomic_write_json(stem.with_suffix(".json"), {"step": step})


def _resume(
    stem: Path,
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    parameters: list[nn.Parameter],
    average: list[Tensor],
) -> int:
    if not stem.with_suffix(".json").exists():
        return 0
    tensors = load_file(stem.with_suffix(".safetensors"), device=str(DEVICE))
    network.load_state_dict(
        {key.removeprefix("network."): value for key, value in tensors.items() if key.startswith("network.")}
    )
    for index, parameter in enumerate(parameters):
        average[index].copy_(tensors[f"average.{index}"])
        state = {key: tensors[f"optimiser.{index}.{key}"] for key in ("exp_avg", "exp_avg_sq", "step")}
        optimiser.state[parameter] = {
            key: value.clone(memory_format=torch.preserve_format) for key, value in state.items()
        }
    return json.loads(stem.with_suffix(".json").read_text())["step"]
