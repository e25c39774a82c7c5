"""How much fits into one pass: measured on a GPU, a matter of cache on a CPU; half where memory runs out.

Portions are a matter of memory and time alone: what comes out is the same.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size

from fairbench.errors import CostWarning, UserError

SHARE = 0.8
"""Of the free memory that may be used: the allocator needs room, and others may come."""

Result = TypeVar("Result")


class Memory(Protocol):
    """The memory of a device."""

    def free(self) -> int:
        """Return the bytes that nobody holds."""

    def used_by(self, call: Callable[[], object]) -> int:
        """Return the most bytes that ``call`` held at once."""


@dataclass(frozen=True)
class CudaMemory:
    """That of one GPU."""

    device: torch.device

    def free(self) -> int:
        """Return what the driver has left once our own spare blocks are handed back."""
        torch.cuda.empty_cache()
        return torch.cuda.mem_get_info(self.device)[0]

    def used_by(self, call: Callable[[], object]) -> int:
        """Return the most bytes that ``call`` held at once."""
        torch.cuda.reset_peak_memory_stats(self.device)
        before = torch.cuda.memory_allocated(self.device)
        call()
        return torch.cuda.max_memory_allocated(self.device) - before


def attempt(call: Callable[[], Result]) -> Result | None:
    """Return what ``call`` returns, which is never None; None where it needs more memory than there is."""
    try:
        return call()
    except RuntimeError as error:
        if not should_reduce_batch_size(error):
            raise
    clear_device_cache(garbage_collection=True)  # only here has the traceback let go of its tensors
    return None


def fitting(run: Callable[[int], object], most: int, memory: Memory) -> int:
    """Return the largest count up to ``most`` that ``run`` has memory for; 0 if one is too many.

    What 2 and 4 need tells what one more needs; the count that follows is tried out, and halved until it
    fits.
    """

    def fits(count: int) -> bool:
        return attempt(lambda: (run(count), True)) is not None

    if not fits(1):  # which also makes, once and for all, what is not to be counted for every row
        return 0
    uses = [attempt(partial(memory.used_by, partial(run, count))) for count in (2, 4)]
    if None in uses:
        return 1 if uses[0] is None else 2
    two, four = (use for use in uses if use is not None)
    count = min(most, largest(two, four, int(SHARE * memory.free())))
    while count > 1 and not fits(count):
        count //= 2
    return count


def largest(two: int, four: int, free: int) -> int:
    r"""Return the largest count n with :math:`use(n) \le free`, if use grows evenly; at least 1.

    Parameters
    ----------
    two, four : int
        Bytes that a pass over 2 and over 4 rows needs.
    free : int
        Bytes.
    """
    each = max(1, (four - two) // 2)
    return max(1, (free - (two - 2 * each)) // each)


def halving(run: Callable[[int], Result], count: int, done: str) -> tuple[Result | None, int]:
    """Call ``run`` with ``count``, or with half of it for as long as memory runs out.

    Returns what it returned and the count that fitted; None where even one does not fit. Each time, one
    line of warning tells how many images are ``done`` at a time from now on.
    """
    while (result := attempt(partial(run, count))) is None and count > 1:
        count //= 2
        tell(f"memory ran out: images are {done} {count} at a time from now on")
    return result, count


def in_portions(
    run: Callable[[slice], Result], total: int, count: int, done: str, device: torch.device
) -> Iterator[Result]:
    """Yield what ``run`` returns for ``count`` of ``total`` rows at a time; of fewer once memory has run out.

    Raises
    ------
    UserError
        The memory does not hold even one row.
    """
    start = 0
    while start < total:
        result, count = halving(lambda size: run(slice(start, start + size)), count, done)  # noqa: B023 called here
        if result is None:
            raise too_large(device, done)
        yield result
        start += count


def too_large(device: torch.device, done: str) -> UserError:
    """Word the error where the memory does not hold even one image."""
    return UserError(
        f"{device} has too little free memory for one image to be {done}: free some, "
        "or use a larger card or a smaller model"
    )


def tell(message: str) -> None:
    """Warn of what costs time, and changes nothing else."""
    warnings.warn(message, CostWarning, stacklevel=2)
