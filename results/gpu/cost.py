"""What a call computes: its floating-point operations, and where its time goes.

The card's own speed, which both are set against, is measured, not looked up.
"""

from collections.abc import Callable
from typing import Any

import torch
from timing import timed
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

MOST = 20
"""Operations that are listed."""


class Flops(TorchDispatchMode):
    """Counts products, convolutions and attention, forward and backward, a multiply-add as two operations.

    With the formulas of torch's own ``FlopCounterMode``, which takes three times as long for each call of a
    small operation: on a card longer than the updates themselves.
    """

    def __init__(self) -> None:
        super().__init__()
        self.total = 0
        self._whole: set[Any] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        formula = flop_registry.get(func.overloadpacket)
        if formula is None and func not in self._whole:
            with self:
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
            self._whole.add(func)  # not made of others
        result = func(*args, **kwargs)
        self.total += formula(*args, **kwargs, out_val=result) if formula else 0
        return result


def flops(call: Callable[[], Any]) -> int:
    """Count the floating-point operations of a call."""
    with Flops() as counter:
        call()
    return counter.total


def product_rate(device: str, side: int) -> float:
    """Return the operations per second of a dense product of bfloat16 matrices, ``side`` x ``side``."""
    left, right = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    return 2 * side**3 / timed(lambda: left @ right, device, repeats=10, warm_ups=3).seconds


def operations(call: Callable[[], Any], device: str) -> list[dict[str, Any]]:
    """List the operations that a call spends most time in, each with its share of all of it.

    On a card that is the time of the kernels that an operation itself has started.
    """
    on_card = device == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_card else [])]
    with profile(activities=activities) as profiled:
        call()
    own = "self_device_time_total" if on_card else "self_cpu_time_total"
    # without the rows of the kernels themselves: their time is in those of the operations
    events = [event for event in profiled.key_averages() if event.device_type == DeviceType.CPU]
    whole = sum(getattr(event, own) for event in events)
    largest = sorted(events, key=lambda event: getattr(event, own), reverse=True)[:MOST]
    return [
        {"name": event.key, "calls": event.count, "share": getattr(event, own) / whole} for event in largest
    ]
