"""Several processes that train as one: each takes some of the prompts, and gradients are added up.

Started by ``accelerate launch`` or anything else that sets the usual environment; alone, nothing happens.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from accelerate import PartialState


class Processes:
    """How many there are, and which of them runs here."""

    def __init__(self) -> None:
        state = PartialState()
        self.index: int = state.process_index
        self.count: int = state.num_processes

    @property
    def first(self) -> bool:
        """Whether this is the one that writes files."""
        return self.index == 0

    def add_up(self, tensors: Iterable[torch.Tensor]) -> None:
        """Replace every tensor by its sum over the processes, in one message."""
        tensors = list(tensors)
        if self.count == 1 or not tensors:
            return
        flat = torch.cat([tensor.detach().flatten().float() for tensor in tensors]).to(PartialState().device)
        torch.distributed.all_reduce(flat)
        for tensor, summed in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
            tensor.copy_(summed.view_as(tensor))

    def any(self, said: bool) -> bool:
        """Tell whether one of the processes says so."""
        count = torch.tensor([float(said)])
        self.add_up([count])
        return count.item() > 0

    def wait(self) -> None:
        """Go on when all have come here."""
        PartialState().wait_for_everyone()
