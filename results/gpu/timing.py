"""Seconds and memory of a call, on a card or on a CPU.

A card works on while Python goes ahead, so it is waited for before the clock is read.
"""

from collections.abc import Callable
from statistics import median
from time import perf_counter
from typing import Any, NamedTuple

import torch


class Timing(NamedTuple):
    """Median seconds of a call, the most memory of the card that was in use, and what the call returned."""

    seconds: float
    peak_gb: float | None
    result: Any


def timed(call: Callable[[], Any], device: str, repeats: int = 3, warm_ups: int = 1) -> Timing:
    """Call ``warm_ups`` times without a clock, then ``repeats`` times with one."""
    for _ in range(warm_ups):
        call()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    clocked = [once(call, device) for _ in range(repeats)]
    return Timing(median(seconds for seconds, _ in clocked), peak_gb(device), clocked[-1][1])


def once(call: Callable[[], Any], device: str) -> tuple[float, Any]:
    """Return the seconds of one call, and what it returned."""
    synchronise(device)
    began = perf_counter()
    result = call()
    synchronise(device)
    return perf_counter() - began, result


def synchronise(device: str) -> None:
    """Wait until the card has done all that it was told; a CPU always has."""
    if device == "cuda":
        torch.cuda.synchronize()


def peak_gb(device: str) -> float | None:
    """Return the most memory that tensors took on the card since it was last reset; None on a CPU."""
    return torch.cuda.max_memory_allocated() / 1e9 if device == "cuda" else None


def rate(call: Callable[[], Any], pictures: int, device: str) -> dict[str, Any]:
    """Return how many pictures a second a call makes or sees, with its memory, and if all is finite."""
    timing = timed(call, device)
    return {
        "pictures_per_second": pictures / timing.seconds,
        "peak_gb": timing.peak_gb,
        "finite": bool(torch.isfinite(timing.result).all()),
    }
