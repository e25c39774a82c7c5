"""Several processes that train as one: each takes some of the prompts, and gradients are added up.

Started by ``accelerate launch`` or anything else that sets the usual environment; alone, nothing happens.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env

from fairbench.errors import UserError

PATIENCE = timedelta(days=7)
"""How long processes wait for each other: the first one also makes and judges images."""


class Processes:
    """How many there are, and which of them runs here."""

    def __init__(self) -> None:
        on_cpu = not torch.cuda.is_available() or parse_flag_from_env("ACCELERATE_USE_CPU")
        self._state = PartialState(cpu=on_cpu, timeout=PATIENCE)
        self.index: int = self._state.process_index
        self.count: int = self._state.num_processes

    @property
    def first(self) -> bool:
        """Whether this is the one that writes files."""
        return self.index == 0

    def add_up(self, tensors: Iterable[torch.Tensor]) -> None:
        """Replace every tensor by its sum over the processes, in one message."""
        tensors = list(tensors)
        if self.count == 1 or not tensors:
            return
        flat = torch.cat([tensor.detach().flatten().float().to(self._state.device) for tensor in tensors])
        torch.distributed.all_reduce(flat)
        for tensor, summed in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
            tensor.copy_(summed.view_as(tensor))

    def any(self, here: bool) -> bool:
        """Tell whether it is so in any of the processes."""
        votes = torch.tensor(float(here))
        self.add_up([votes])
        return votes.item() > 0

    def call(self, work: bool) -> None:
        """Call the others to work, from the first process; or let them go."""
        self.any(work)

    def called(self) -> bool:
        """Wait, in another process, until the first one calls; false if it lets this one go.

        Raises
        ------
        UserError
            If the first process is gone.
        """
        try:
            return self.any(False)
        except RuntimeError:
            raise UserError("the first process has ended before its time: see what it says") from None

    def merged(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return one row of a log for all processes: the sum of their numbers, the norm of listed norms."""
        if self.count == 1:
            return row
        values = {name: torch.tensor(value, dtype=torch.float64) for name, value in row.items()}
        norms = [value.square_() for value in values.values() if value.ndim]
        self.add_up(values.values())
        for value in norms:
            value.sqrt_()
        return {name: value.tolist() for name, value in values.items()}

    def wait(self) -> None:
        """Go on when all have come here."""
        if self.count > 1:
            self._state.wait_for_everyone()
