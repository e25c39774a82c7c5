"""How much fits into one pass: measured on a GPU, a matter of cache on a CPU; half where memory runs out.

Portions are a matter of memory and time alone: what comes out is the same but for rounding.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar

import torch
from accelerate.utils.memory import clear_device_cache

from fairbench.errors import CostWarning, UserError

SHARE = 0.8
"""Of the free memory that may be used: the allocator needs room, and others may come."""
RAN_OUT = ("out of memory", "can't allocate memory", "ALLOC_FAILED")
"""How torch, CUDA and its libraries say so."""

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


@dataclass
class AtOnce:
    """How many images are ``done`` at once: ``usual`` unless told otherwise, never more than has fitted."""

    usual: int
    done: str
    limit: int = sys.maxsize

    def attempt(self, run: Callable[[int], Result], left: int, asked: int | None = None) -> Result | None:
        """Call ``run`` with up to ``left`` images, with half of them for as long as memory runs out.

        None where even one does not fit. Each halving is a line of warning, and holds from now on.
        """
        count = min(left, asked or self.usual, self.limit)
        while (result := attempt(partial(run, count))) is None and count > 1:
            count = self.limit = count // 2
            tell(f"memory ran out: images are {self.done} {count} at a time from now on")
        return result

    def portions(
        self, run: Callable[[slice], Result], total: int, device: torch.device, asked: int | None = None
    ) -> Iterator[tuple[slice, Result]]:
        """Yield rows, and what ``run`` returns for them, until all ``total`` rows are done.

        Raises
        ------
        UserError
            The memory does not hold even one row.
        """
        start = 0
        while start < total:

            def these(count: int, start: int = start) -> tuple[slice, Result]:
                rows = slice(start, start + count)
                return rows, run(rows)

            found = self.attempt(these, total - start, asked)
            if found is None:
                raise too_large(device, self.done)
            yield found
            start = found[0].stop


def attempt(call: Callable[[], Result]) -> Result | None:
    """Return what ``call`` returns, which is never None; None where it needs more memory than there is."""
    try:
        return call()
    except RuntimeError as error:
        if not any(words in str(error) for words in RAN_OUT):
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
    two, four = (attempt(partial(memory.used_by, partial(run, count))) for count in (2, 4))
    if two is None or four is None:
        return min(most, 1 if two is None else 2)
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


def too_large(device: torch.device, done: str) -> UserError:
    """Word the error where the memory does not hold even one image."""
    return UserError(
        f"{device} has too little free memory for one image to be {done}: free some, "
        "or use a larger card or a smaller model"
    )


def tell(message: str) -> None:
    """Warn of what costs time, and changes nothing else."""
    warnings.warn(message, CostWarning, stacklevel=2)
