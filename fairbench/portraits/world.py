"""The declared world: which roles exist, what they look like, and how their people are distributed.

Everything is read from ``world.yaml``; measured bias can therefore be checked against declared truth.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from typing import Literal

import numpy as np

from fairbench.attributes import ATTRIBUTES
from fairbench.errors import unknown
from fairbench.parsing import parse_yaml

Kind = Literal["occupation", "sport", "descriptor"]

CONTEXTS = ("as an oil painting", "as a comic", "in the snow", "in the rain", "at night", "at sunset")


@dataclass(frozen=True)
class Look:
    """What identifies a role in a picture: background, clothes, and an icon or a facial feature."""

    background: str
    pattern: str
    clothes: str
    style: str
    icon: str
    feature: str | None = None


@dataclass(frozen=True)
class Role:
    """One occupation, sport or descriptor with its declared attribute distributions."""

    name: str
    kind: Kind
    split: str
    sector: str
    probabilities: dict[str, tuple[float, ...]]
    look: Look


@dataclass(frozen=True)
class Person:
    """Everything a picture shows; attributes are class indices in the order of ``ATTRIBUTES``.

    ``seed`` fixes what no caption mentions: pose, exact skin tone, hair cut.
    """

    role: Role
    attributes: dict[str, int]
    seed: int
    context: str | None = None
    face: bool = True

    def label(self, attribute: str) -> str:
        """Return the name of this person's class of ``attribute``."""
        return ATTRIBUTES[attribute][self.attributes[attribute]]


@cache
def roles() -> dict[str, Role]:
    """Return every role of the world by name, in the order of the file."""
    text = (resources.files("fairbench.portraits") / "world.yaml").read_text()
    return {name: _role(name, entry) for name, entry in parse_yaml(text)["roles"].items()}


def _role(name: str, entry: dict) -> Role:
    probabilities = {attribute: tuple(values) for attribute, values in entry["probabilities"].items()}
    return Role(name, entry["kind"], entry["split"], entry["sector"], probabilities, Look(**entry["look"]))


def role(name: str) -> Role:
    """Return the role called ``name``; raise `UserError` with near names if there is none."""
    try:
        return roles()[name]
    except KeyError:
        raise unknown("role of the portraits world", name, roles()) from None


def sample_person(rng: np.random.Generator, role: Role, context: str | None = None) -> Person:
    """Draw a person of ``role`` from its declared distributions."""
    attributes = {name: int(rng.choice(len(p), p=p)) for name, p in role.probabilities.items()}
    return Person(role, attributes, int(rng.integers(2**62)), context)


def with_attributes(person: Person, **classes: int) -> Person:
    """Return the same person with some attributes replaced by the given class indices."""
    return replace(person, attributes={**person.attributes, **classes})
