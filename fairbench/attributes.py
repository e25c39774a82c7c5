"""The attributes that images are judged by, products of them, and the distribution a method should reach.

No size is fixed anywhere else: whoever needs the number of classes asks the space.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np

from fairbench.errors import UserError, unknown

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "gender": ("female", "male"),
    "race": ("WMELH", "Black", "Indian", "Asian"),
    "age": ("young", "old"),
}
"""Attribute -> its classes. WMELH: White, Middle Eastern and Latino Hispanic, as in arXiv 2311.07604."""
SCALES: dict[str, tuple[str, ...]] = {"skin_tone": tuple(f"monk{tone}" for tone in range(1, 11))}
"""Continuous attribute -> its bins in order, light to dark: read off pixels, named by no prompt."""
KNOWN = ATTRIBUTES | SCALES
FACE_THRESHOLD = 0.5
"""An image counts where its judge is at least so sure of a face."""


@dataclass(frozen=True)
class AttributeSpace:
    """One attribute, or the product of several.

    Examples
    --------
    >>> space = AttributeSpace.parse("gender,race")
    >>> space.size, space.labels[5]
    (8, 'male Black')
    """

    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.names:
            raise UserError(f"name at least one attribute; known: {', '.join(KNOWN)}")
        for name in self.names:
            if name not in KNOWN:
                raise unknown("attribute", name, KNOWN)
        if len(set(self.names)) < len(self.names):
            raise UserError(f"attributes {','.join(self.names)!r}: name each one once")

    @classmethod
    def parse(cls, names: str | Iterable[str]) -> "AttributeSpace":
        """Read ``"gender,race"`` or a sequence of names.

        Raises
        ------
        UserError
            An attribute is unknown or named twice, or there is none.
        """
        parts = names.split(",") if isinstance(names, str) else names
        if not isinstance(parts, Iterable):
            raise UserError(f"attributes {names!r}: write them like gender,race")
        return cls(tuple(str(part).strip() for part in parts if str(part).strip()))

    @property
    def classes(self) -> dict[str, tuple[str, ...]]:
        """Attribute -> its classes, in the order of ``names``."""
        return {name: KNOWN[name] for name in self.names}

    @property
    def size(self) -> int:
        """The number of classes of the product."""
        return math.prod(len(classes) for classes in self.classes.values())

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes of the product in row-major order, such as ``"female Black"``."""
        return tuple(" ".join(combination) for combination in product(*self.classes.values()))


@dataclass(frozen=True)
class TargetDistribution:
    """What every prompt's images should be distributed like: independent marginals, one per attribute.

    Examples
    --------
    >>> target = TargetDistribution.parse("gender=0.25/0.75", AttributeSpace.parse("gender,age"))
    >>> target.joint(["gender", "age"]).tolist()
    [0.125, 0.125, 0.375, 0.375]
    """

    probabilities: dict[str, tuple[float, ...]]

    @classmethod
    def parse(
        cls, target: str | Mapping[str, Iterable[float]] | None, space: AttributeSpace
    ) -> "TargetDistribution":
        """Read ``"uniform"``, ``"gender=0.25/0.75,race=.25/.25/.25/.25"``, a mapping, or None for uniform.

        An attribute of the space that the target leaves out is uniform.

        Raises
        ------
        UserError
            An attribute is not in the space or named twice; its probabilities are not one per class, hold a
            negative value or no number, or do not sum to 1.
        """
        given = _read(target) if isinstance(target, str) else target or {}
        if not isinstance(given, Mapping):
            raise UserError(f"target {target!r}: write it like gender=0.25/0.75, or uniform")
        for name in given:
            if name not in space.names:
                raise unknown("target attribute", name, space.names)
        return cls(
            {
                name: _checked(name, given[name], classes) if name in given else _uniform(len(classes))
                for name, classes in space.classes.items()
            }
        )

    @property
    def is_uniform(self) -> bool:
        """Whether every class of every attribute is wanted equally often."""
        return all(max(values) - min(values) < 1e-9 for values in self.probabilities.values())

    def joint(self, names: Iterable[str]) -> np.ndarray:
        """Probabilities of the product of ``names`` in row-major order, ``prod_a p_a(k_a)``; sums to 1."""
        joint = np.ones(1)
        for name in names:
            joint = np.outer(joint, self.probabilities[name]).ravel()
        return joint


def _uniform(count: int) -> tuple[float, ...]:
    return (1 / count,) * count


def _read(text: str) -> dict[str, list[str]]:
    if text.strip() == "uniform":
        return {}
    given: dict[str, list[str]] = {}
    for part in text.split(","):
        name, equals, values = part.partition("=")
        if not equals or not name.strip():
            raise UserError(f"target {text!r}: write it like gender=0.25/0.75, or uniform")
        if name.strip() in given:
            raise UserError(f"target {text!r}: name each attribute once")
        given[name.strip()] = values.split("/")
    return given


def _checked(name: str, values: object, classes: tuple[str, ...]) -> tuple[float, ...]:
    where = f"target of {name}"
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise UserError(f"{where}: give a list of one probability per class: {', '.join(classes)}")
    values = list(values)
    try:
        numbers = [float(value) for value in values]
    except (TypeError, ValueError):
        raise UserError(f"{where}: {values} are not all numbers") from None
    if len(numbers) != len(classes):
        expected = f"{len(classes)} probabilities ({', '.join(classes)})"
        raise UserError(f"{where}: give {expected}, not {len(numbers)}")
    if not all(math.isfinite(number) and number >= 0 for number in numbers):
        raise UserError(f"{where}: {numbers} must not be negative, infinite or nan")
    total = math.fsum(numbers)
    if abs(total - 1) > 1e-6:
        raise UserError(f"{where}: {numbers} sum to {total:g}; they must sum to 1")
    return tuple(number / total for number in numbers)
