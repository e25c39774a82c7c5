"""The renderer as a generator: pictures whose attributes are known exactly, so measured bias can be checked.

``portraits-renderer[male=0.5]`` is provably fair in gender, ``[male=1.0]`` provably biased; without options
it follows the declared world.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from fairbench.attributes import ATTRIBUTES
from fairbench.errors import UserError
from fairbench.portraits.drawing import draw_people
from fairbench.portraits.world import CONTEXTS, Person, Role, roles, sample_person

if TYPE_CHECKING:
    from torch import Tensor

CLASS_OPTIONS = {
    label: (name, index) for name, labels in ATTRIBUTES.items() for index, label in enumerate(labels)
}


class PortraitsRenderer:
    """Draws the person a prompt asks for, from the declared or from given probabilities.

    Parameters
    ----------
    **shares : float
        Class name to its probability for every role, e.g. ``male=0.5`` or ``Black=0.25``; the other classes
        of the attribute share the rest equally.

    Raises
    ------
    UserError
        If a class is unknown or its share is not a probability.
    """

    name = "portraits-renderer"

    def __init__(self, **shares: float) -> None:
        self.distributions = _distributions(shares)

    def check(self, prompts: Sequence[str]) -> None:
        """Raise a ``UserError`` about the first prompt with nobody to draw."""
        for prompt in prompts:
            role_in(prompt)

    def people(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Person]:
        """Return the person drawn for each prompt and seed."""
        return [self._person(prompt, seed) for prompt, seed in zip(prompts, seeds, strict=True)]

    def generate(self, prompts: Sequence[str], seeds: Sequence[int], **_: Any) -> Tensor:
        """Return N x 3 x 64 x 64 pictures in [0, 1], the same for the same prompt and seed."""
        import torch

        pixels = torch.from_numpy(draw_people(self.people(prompts, seeds)))
        return pixels.permute(0, 3, 1, 2).float() / 255

    def _person(self, prompt: str, seed: int) -> Person:
        role = role_in(prompt)
        role = replace(role, probabilities={**role.probabilities, **self.distributions})
        context = next((context for context in CONTEXTS if prompt.endswith(context)), None)
        return sample_person(np.random.default_rng(seed), role, context)


def role_in(prompt: str) -> Role:
    """Return the role with the longest name that the prompt contains; raise `UserError` if there is none."""
    found = [role for name, role in roles().items() if name in prompt]
    if not found:
        raise UserError(
            f"the portraits renderer knows no role in the prompt {prompt!r}: use the suites in prompts/"
        )
    return max(found, key=lambda role: len(role.name))


def _distributions(shares: dict[str, float]) -> dict[str, tuple[float, ...]]:
    distributions: dict[str, tuple[float, ...]] = {}
    for label, share in shares.items():
        if label not in CLASS_OPTIONS:
            raise UserError(
                f"portraits-renderer has no class {label!r}: choose from {', '.join(CLASS_OPTIONS)}"
            )
        if not 0 <= float(share) <= 1:
            raise UserError(f"portraits-renderer: the share of {label} must lie between 0 and 1, not {share}")
        name, index = CLASS_OPTIONS[label]
        if name in distributions:
            raise UserError(f"portraits-renderer: give one class of {name}, the others share the rest")
        rest = (1 - float(share)) / (len(ATTRIBUTES[name]) - 1)
        distributions[name] = tuple(
            float(share) if k == index else rest for k in range(len(ATTRIBUTES[name]))
        )
    return distributions


def reference_images(concepts: Sequence[str], seed: int) -> np.ndarray:
    """Return one picture per concept of the declared world, N x 64 x 64 x 3 uint8; repeats differ."""
    rng = np.random.default_rng(seed)
    return draw_people([sample_person(rng, roles()[concept]) for concept in concepts])
