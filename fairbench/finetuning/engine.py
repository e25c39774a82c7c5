"""The update loop of every finetuning method: optimiser, running average, guard, log, resume.

What is on disk is weights and moments only: all randomness follows from the update number.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from fairbench.errors import UserError
from fairbench.finetuning.adapters import RunningAverage
from fairbench.storage import atomic_write_tensors, sha256_of

STATE = "training.safetensors"
SAVE_EVERY = 20
TOLERATED_IN_A_ROW = 10

Log = dict[str, Any]


@dataclass
class Progress:
    """Where a training stands: finished updates, and how many of them were clipped or skipped."""

    update: int = 0
    clipped: int = 0
    nonfinite: int = 0
    nonfinite_in_a_row: int = 0


class Training:
    """AdamW on named parameters, with a running average of them, that can stop and go on at any update.

    Parameters
    ----------
    parameters : mapping
        Name to parameter.
    directory : Path
        Where the state is kept.
    settings : mapping
        All that the training depends on; a state of other settings is refused.
    learning_rate, ema_decay : float
        Of AdamW, and of `RunningAverage`.
    clip : float
        The largest norm of the whole gradient that is let through unscaled.
    """

    def __init__(
        self,
        parameters: Mapping[str, torch.nn.Parameter],
        directory: Path,
        settings: Mapping[str, Any],
        *,
        learning_rate: float,
        ema_decay: float,
        clip: float,
    ) -> None:
        self.average = RunningAverage(parameters, ema_decay)
        self.progress = Progress()
        self._parameters, self._clip = dict(parameters), clip
        self._identity = sha256_of(json.dumps(settings, sort_keys=True).encode())
        self._optimiser = torch.optim.AdamW(self._parameters.values(), lr=learning_rate)
        self._path = directory / STATE
        if self._path.exists():
            self._load()

    def run(
        self,
        updates: int,
        accumulate: Callable[[int], Log],
        log: Callable[[Log], bool | None],
        on_save: Callable[[], None] = lambda: None,
    ) -> dict[str, torch.Tensor]:
        """Do what is left of ``updates`` and return the averaged parameters.

        ``accumulate(update)`` leaves gradients in ``.grad`` and returns what is to be logged; it may give up
        with a ``FloatingPointError``. An update whose gradient is not finite is skipped and counted. A log
        that returns True ends the training there. After an interruption the updates since the last save, at
        most twenty, are done and logged once more.

        Raises
        ------
        UserError
            After ten updates in a row whose gradient was not finite, or if the state cannot be written.
        """
        stop = False
        while self.progress.update < updates and not stop:
            stop = log(self._update(accumulate)) is True
            if stop or self.progress.update % SAVE_EVERY == 0 or self.progress.update == updates:
                on_save()
                self._save()
        return self.average.values

    def _update(self, accumulate: Callable[[int], Log]) -> Log:
        began = time.perf_counter()
        self._optimiser.zero_grad()
        try:
            row = accumulate(self.progress.update)
            norm = torch.nn.utils.clip_grad_norm_(self._parameters.values(), self._clip).item()
        except FloatingPointError:
            row, norm = {}, math.nan
        self.progress.update += 1
        if math.isfinite(norm):
            self._optimiser.step()
            self.average.update(self._parameters, self.progress.update)
        self._count(norm)
        return {
            "update": self.progress.update,
            **row,
            "gradient_norm": norm,
            "clipped": self.progress.clipped,
            "nonfinite": self.progress.nonfinite,
            "seconds": time.perf_counter() - began,
        }

    def _count(self, norm: float) -> None:
        finite = math.isfinite(norm)
        self.progress.clipped += finite and norm > self._clip
        self.progress.nonfinite += not finite
        self.progress.nonfinite_in_a_row = 0 if finite else self.progress.nonfinite_in_a_row + 1
        if self.progress.nonfinite_in_a_row >= TOLERATED_IN_A_ROW:
            raise UserError(
                f"the gradient was not finite in {TOLERATED_IN_A_ROW} updates in a row (up to update "
                f"{self.progress.update}): lower the learning rate"
            )

    def _save(self) -> None:
        tensors: dict[str, torch.Tensor] = {}
        for name, parameter in self._parameters.items():
            tensors[f"parameter/{name}"] = parameter
            tensors[f"average/{name}"] = self.average.values[name]
            for moment, value in self._optimiser.state[parameter].items():
                tensors[f"adam/{moment}/{name}"] = value
        header = {"identity": self._identity, "progress": json.dumps(asdict(self.progress))}
        atomic_write_tensors(self._path, tensors, header)

    @torch.no_grad()
    def _load(self) -> None:
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self._path, "pt") as file:
                header = file.metadata()
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 not a mapping
        except SafetensorError as error:
            raise UserError(f"{self._path}: broken ({error}); remove it to start afresh") from None
        if header["identity"] != self._identity:
            raise UserError(
                f"{self._path}: a training with other settings; use another directory or start afresh"
            )
        self.progress = Progress(**json.loads(header["progress"]))
        for name, parameter in self._parameters.items():
            parameter.copy_(tensors[f"parameter/{name}"])
            self.average.values[name].copy_(tensors[f"average/{name}"])
        state = self._optimiser.state_dict()
        for index, name in enumerate(self._parameters):
            moments = {key: tensors.get(f"adam/{key}/{name}") for key in ("step", "exp_avg", "exp_avg_sq")}
            if None not in moments.values():
                state["state"][index] = moments
        self._optimiser.load_state_dict(state)
