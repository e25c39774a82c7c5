"""Optimisers and learning-rate schedules by name; a schedule is a function of the update number alone."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch

from fairbench.errors import UserError


def make_optimiser(
    name: str, parameters: Iterable[torch.nn.Parameter], learning_rate: float
) -> torch.optim.Optimizer:
    """Return ``adam``, ``adamw``, ``adamw8bit`` (of bitsandbytes), ``adafactor`` or ``sgd`` (momentum 0.9).

    Raises
    ------
    UserError
        If it needs a package that is not installed.
    """
    parameters = list(parameters)
    if name == "sgd":
        return torch.optim.SGD(parameters, lr=learning_rate, momentum=0.9)
    if name == "adam":
        return torch.optim.Adam(parameters, lr=learning_rate)
    if name == "adafactor":
        if not hasattr(torch.optim, "Adafactor"):
            raise UserError("the optimizer adafactor needs torch 2.5 or later: install it, or use adamw")
        return torch.optim.Adafactor(parameters, lr=learning_rate)
    if name == "adamw8bit":
        try:
            from bitsandbytes.optim import AdamW8bit
        except ImportError:
            raise UserError(
                "the optimizer adamw8bit needs bitsandbytes: pip install bitsandbytes, or use adamw"
            ) from None
        return AdamW8bit(parameters, lr=learning_rate)
    return torch.optim.AdamW(parameters, lr=learning_rate)


def rate_factor(schedule: str, update: int, updates: int, warmup: int = 0) -> float:
    r"""Return what the learning rate of update t (from 0) of T is multiplied by.

    .. math:: \min\left(1, \frac{t+1}{W}\right) \cdot
              \begin{cases} 1 & constant \\ 1-p & linear \\ (1+\cos \pi p)/2 & cosine \end{cases},
              \qquad p = \frac{\max(0, t-W)}{T-W}
    """
    rising = min(1.0, (update + 1) / warmup) if warmup else 1.0
    part = max(0, update - warmup) / max(1, updates - warmup)
    falling = {"constant": 1.0, "linear": 1 - part, "cosine": (1 + math.cos(math.pi * part)) / 2}
    return rising * falling[schedule]
