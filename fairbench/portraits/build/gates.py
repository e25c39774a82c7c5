"""The gates of the embedded model, measured on its pictures by a judge that took no part in training."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from rich.progress import track
from torch import Tensor

from fairbench.attributes import ATTRIBUTES
from fairbench.judges import Judge, Judgement
from fairbench.models.text_to_image import TextToImage
from fairbench.portraits.captions import explicit, neutral
from fairbench.portraits.world import Role, roles
from fairbench.seeding import image_seed

EXPLICIT_OCCUPATIONS = 20
SKEW_TOLERANCE = 0.15


@dataclass(frozen=True)
class Gate:
    """One measured quantity and the value it must reach."""

    what: str
    measured: float
    least: float

    @property
    def passed(self) -> bool:
        """Whether the gate is reached."""
        return self.measured >= self.least


def measure_gates(
    model: TextToImage, judge: Judge, images_per_role: int = 32, images_per_class: int = 8
) -> list[Gate]:
    """Measure whether roles are recognised, explicit prompts obeyed and declared skews reproduced."""
    occupations = [role for role in roles().values() if role.kind == "occupation"]
    judgements = {
        role.name: _judged(model, judge, neutral(role), images_per_role)
        for role in track(occupations, "neutral prompts")
    }
    tested = [role for role in occupations if role.split == "test"]
    recognised = [
        (judgements[role.name].probabilities["concept"].argmax(1) == _place(judge, role)).float().mean()
        for role in tested
    ]
    gates = [
        Gate(
            "occupation recognised (mean over the 50 test occupations)",
            torch.stack(recognised).mean().item(),
            0.95,
        )
    ]
    for attribute, least in (("gender", 0.90), ("race", 0.80), ("age", 0.85)):
        gates.append(
            Gate(
                f"explicit {attribute} obeyed",
                _obeyed(model, judge, attribute, tested, images_per_class),
                least,
            )
        )
    close = [
        abs(_share_male(judgements[role.name]) - role.probabilities["gender"][1]) <= SKEW_TOLERANCE
        for role in occupations
    ]
    gates.append(
        Gate(
            f"occupations with P(male) within {SKEW_TOLERANCE} of the declared", sum(close) / len(close), 0.80
        )
    )
    gap = [abs(2 * _share_male(judgements[role.name]) - 1) for role in tested]
    gates.append(Gate("mean gender gap over the test occupations", sum(gap) / len(gap), 0.60))
    gates.append(
        Gate(
            "face found", torch.cat([j.face for j in judgements.values()]).gt(0.5).float().mean().item(), 0.95
        )
    )
    return gates


def _judged(model: TextToImage, judge: Judge, prompt: str, count: int) -> Judgement:
    seeds = [image_seed("gates", "1", prompt, index, 0) for index in range(count)]
    return judge.judge(model.generate([prompt] * count, seeds, batch_size=48))


def _place(judge: Judge, role: Role) -> int:
    return judge.attributes["concept"].index(role.name)


def _share_male(judgement: Judgement) -> float:
    return judgement.probabilities["gender"].argmax(1).float().mean().item()


def _obeyed(model: TextToImage, judge: Judge, attribute: str, occupations: list[Role], count: int) -> float:
    """Return the share of pictures that show the class named, averaged over the classes of ``attribute``."""
    shares: list[Tensor] = []
    for place, label in enumerate(ATTRIBUTES[attribute]):
        for role in track(occupations[:EXPLICIT_OCCUPATIONS], f"explicit: {label}"):
            judgement = _judged(model, judge, explicit(role, attribute, label), count)
            shares.append((judgement.probabilities[attribute].argmax(1) == place).float().mean())
    return torch.stack(shares).mean().item()
