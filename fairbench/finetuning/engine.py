"""The update loop of every finetuning method: optimiser, running average, guard, log, resume.

What is on disk is weights and moments only: all randomness follows from the update number.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from fairbench.errors import UserError, one_line
from fairbench.finetuning.adapters import RunningAverage
from fairbench.finetuning.optimisers import make_optimiser, rate_factor
from fairbench.finetuning.processes import Processes
from fairbench.parsing import parse_json
from fairbench.storage import atomic_write_tensors

if TYPE_CHECKING:
    from fairbench.models.text_to_image import TextToImage

STATE = "training.safetensors"
SAVE_EVERY = 20
TOLERATED_IN_A_ROW = 10

Log = dict[str, Any]


@dataclass
class State:
    """Where a training stands: finished updates, how many of them were clipped or skipped, who ended it."""

    update: int = 0
    clipped: int = 0
    nonfinite: int = 0
    nonfinite_in_a_row: int = 0
    stopped: bool = False
    """Whether the log has ended it; it then stays ended, also after a kill."""


@dataclass(frozen=True)
class Pace:
    """How a gradient becomes a step: optimiser, rate and its schedule, clipping, running average."""

    learning_rate: float
    ema_decay: float
    clip: float | None = None
    optimizer: str = "adamw"
    lr_schedule: str = "constant"
    warmup: int = 0


class Training:
    """Named parameters, an optimiser and a running average of them, that can stop and go on at any update.

    Parameters
    ----------
    parameters : mapping
        Name to parameter.
    directory : Path
        Where the state is kept.
    settings : mapping
        All that the training depends on; a state of other settings is refused.
    pace : Pace
    processes : Processes
        Gradients are added up over them; the first one keeps the state and the log.
    meter : callable
        Tells how many rows have gone through a U-Net so far; those of every update are logged.
    """

    def __init__(
        self,
        parameters: Mapping[str, torch.nn.Parameter],
        directory: Path,
        settings: Mapping[str, Any],
        pace: Pace,
        processes: Processes | None = None,
        meter: Callable[[], int] = lambda: 0,
    ) -> None:
        self.average = RunningAverage(parameters, pace.ema_decay)
        self.state = State()
        self._parameters, self._pace = dict(parameters), pace
        self._settings = json.loads(json.dumps(settings))
        self._optimiser = make_optimiser(pace.optimizer, self._parameters.values(), pace.learning_rate)
        self._processes, self._meter = processes or Processes(), meter
        self._path = directory / STATE
        if self._path.exists():
            self._load()
        self._processes.wait()  # until all have read the state that the first is going to replace

    def run(
        self,
        updates: int,
        accumulate: Callable[[int], Log],
        log: Callable[[Log], bool | None],
    ) -> dict[str, torch.Tensor]:
        """Do what is left of ``updates`` and return the averaged parameters.

        ``accumulate(update)`` leaves gradients in ``.grad`` and returns what is to be logged; it may give up
        with a ``FloatingPointError``. What several processes return is put together by `Processes.merged`.
        An update whose gradient is not finite is skipped and counted. A log that returns True ends the
        training there. After an interruption the updates since the last save, at most twenty, are done and
        logged once more.

        Raises
        ------
        UserError
            After ten updates in a row whose gradient was not finite, or if the state cannot be written.
        """
        state = self.state
        while state.update < updates and not state.stopped:
            row = self._update(accumulate, updates)
            first = self._processes.first
            state.stopped = self._processes.any(first and log(row) is True)
            due = state.stopped or state.update % SAVE_EVERY == 0 or state.update == updates
            if first and due:
                self._save()
        return self.average.values

    def _update(self, accumulate: Callable[[int], Log], updates: int) -> Log:
        began, rows, pace = time.perf_counter(), self._meter(), self._pace
        rate = pace.learning_rate * rate_factor(pace.lr_schedule, self.state.update, updates, pace.warmup)
        row, norm = self._gradient(accumulate)
        self.state.update += 1
        if math.isfinite(norm):
            for group in self._optimiser.param_groups:
                group["lr"] = rate
            self._optimiser.step()
            self.average.update(self._parameters, self.state.update)
        self._count(norm)
        return {
            "update": self.state.update,
            **row,
            "learning_rate": rate,
            "gradient_norm": norm,
            "clipped": self.state.clipped,
            "nonfinite": self.state.nonfinite,
            "unet_rows": self._meter() - rows,
            "seconds": time.perf_counter() - began,
        }

    def _gradient(self, accumulate: Callable[[int], Log]) -> tuple[Log, float]:
        """Gather the gradient of all processes in ``.grad``; return what is to be logged, and its norm.

        Every process sees the same norm, so that all take the step or none does.
        """
        parameters = self._parameters.values()
        self._optimiser.zero_grad()
        row: Log | None
        try:
            row = accumulate(self.state.update)
        except FloatingPointError:
            row = None
        if self._processes.any(row is None) or row is None:
            return {}, math.nan
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        self._processes.add_up(parameter.grad for parameter in parameters if parameter.grad is not None)
        most = math.inf if self._pace.clip is None else self._pace.clip
        return self._processes.merged(row), torch.nn.utils.clip_grad_norm_(parameters, most).item()

    def _count(self, norm: float) -> None:
        finite = math.isfinite(norm)
        self.state.clipped += finite and self._pace.clip is not None and norm > self._pace.clip
        self.state.nonfinite += not finite
        self.state.nonfinite_in_a_row = 0 if finite else self.state.nonfinite_in_a_row + 1
        if self.state.nonfinite_in_a_row >= TOLERATED_IN_A_ROW:
            raise UserError(
                f"the gradient was not finite in {TOLERATED_IN_A_ROW} updates in a row (up to update "
                f"{self.state.update}): lower the learning rate"
            )

    def _save(self) -> None:
        tensors: dict[str, torch.Tensor] = {}
        numbers: dict[str, dict[str, Any]] = {}
        for name, parameter in self._parameters.items():
            tensors[f"parameter/{name}"] = parameter
            tensors[f"average/{name}"] = self.average.values[name]
            for moment, value in self._optimiser.state[parameter].items():
                if isinstance(value, torch.Tensor):
                    tensors[f"moment/{moment}/{name}"] = value
                else:
                    numbers.setdefault(name, {})[moment] = value
        header = {
            "settings": json.dumps(self._settings),
            "progress": json.dumps(asdict(self.state)),
            "numbers": json.dumps(numbers),
        }
        atomic_write_tensors(self._path, tensors, header)

    @torch.no_grad()
    def _load(self) -> None:
        stored = _Stored.read(self._path)
        if differing := differences(stored.settings, self._settings):
            raise UserError(
                f"{self._path}: a training with other settings ({differing}): "
                "use another directory or start afresh"
            )
        state = self._optimiser.state_dict()
        try:
            self.state = State(**stored.progress)
            for index, (name, parameter) in enumerate(self._parameters.items()):
                parameter.copy_(stored.tensors[f"parameter/{name}"])
                self.average.values[name].copy_(stored.tensors[f"average/{name}"])
                moments = stored.moments(name)
                if moments:
                    state["state"][index] = moments
            self._optimiser.load_state_dict(state)
        except (KeyError, RuntimeError, TypeError, ValueError) as error:  # not all of it is there, or fits
            raise _broken(self._path, error) from None


def check_precision(model: TextToImage) -> None:
    """Raise a ``UserError`` where gradients through ``model`` would vanish.

    The smallest numbers of float16 are larger than most entries of a gradient.
    """
    if model.dtype == torch.float16:
        raise UserError(
            f"{model.name} is loaded in float16, in which gradients vanish: train with "
            f"--model '{model.name}[dtype=float32]', or dtype=bfloat16 on a card that has it"
        )


def differences(stored: Mapping[str, Any], ours: Mapping[str, Any]) -> str:
    """Name the settings that differ, with both values; empty where none does."""
    return ", ".join(
        f"{key} is {stored.get(key)} there and {ours.get(key)} here"
        for key in sorted({*stored, *ours})
        if stored.get(key) != ours.get(key)
    )


def _broken(path: Path, error: Exception) -> UserError:
    return UserError(f"{path}: broken ({one_line(error)}); remove it to start afresh")


@dataclass(frozen=True)
class _Stored:
    """What `Training` has written."""

    tensors: dict[str, torch.Tensor]
    settings: dict[str, Any]
    progress: dict[str, Any]
    numbers: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> _Stored:
        from safetensors import SafetensorError, safe_open

        try:
            if not path.is_file():
                raise ValueError("it is not a file")
            with safe_open(path, "pt") as file:
                header = {key: parse_json(value) for key, value in file.metadata().items()}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 not a mapping
                return cls(tensors, **header)
        except (SafetensorError, OSError, ValueError, TypeError, AttributeError) as error:
            raise _broken(path, error) from None

    def moments(self, name: str) -> dict[str, Any]:
        """Return what the optimiser remembers of one parameter; nothing before its first step."""
        found = {
            key.split("/")[1]: value
            for key, value in self.tensors.items()
            if key.startswith("moment/") and key.split("/", 2)[2] == name
        }
        return found | self.numbers.get(name, {})
