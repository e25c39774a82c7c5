"""Which prompts and which noise an update sees, derived from (seed, update number) and nothing else.

So an interrupted training goes on with the very images that would have come next.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from fairbench.seeding import image_seed

if TYPE_CHECKING:
    from fairbench.intervention import FitContext


@dataclass(frozen=True)
class Batch:
    """The images of one update, prompt after prompt, or one process's share of them.

    ``total`` counts the images of the whole update, which its loss is a mean over. ``generator`` is for what
    the update draws as a whole, the same in every process.

    Examples
    --------
    >>> texts = ["a nurse", "a nurse", "a cook", "a cook"]
    >>> batch = Batch(0, texts, [1, 2, 3, 4], images_per_prompt=2, generator=torch.Generator(), total=4)
    >>> batch.share(1, 2).pictures
    [('a cook', 3), ('a cook', 4)]
    """

    update: int
    texts: list[str]
    seeds: list[int]
    images_per_prompt: int
    generator: torch.Generator
    total: int

    @property
    def pictures(self) -> list[tuple[str, int]]:
        """Return prompt and seed of every image."""
        return list(zip(self.texts, self.seeds, strict=True))

    def share(self, index: int, count: int) -> Batch:
        """Return the images of every ``count``-th prompt, from number ``index``."""
        rows = [row for row in range(len(self.seeds)) if row // self.images_per_prompt % count == index]
        return replace(self, texts=[self.texts[i] for i in rows], seeds=[self.seeds[i] for i in rows])


class Batches:
    """Shuffled epochs of prompts, each with a few noises out of its own finite bank.

    The bank lets the original model's pictures be made once per (prompt, seed) instead of at every visit.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> from fairbench.suites import load_suite
    >>> prompts = load_suite("occupations").prompts("train")
    >>> context = SimpleNamespace(prompts=prompts, suite="occupations", suite_version="1", seed=0)
    >>> Batches(context, prompts_per_update=2, images_per_prompt=3, bank=8)[0].total
    6
    """

    def __init__(
        self, context: FitContext, prompts_per_update: int, images_per_prompt: int, bank: int
    ) -> None:
        self._context = context
        self._prompts = min(prompts_per_update, len(context.prompts))
        self._images, self._bank = images_per_prompt, bank

    def __getitem__(self, update: int) -> Batch:
        """Return the images of update number ``update``, from 0."""
        every = self._context.prompts
        epoch, position = divmod(update, len(every) // self._prompts)
        order = torch.randperm(len(every), generator=self._generator("epoch", epoch)).tolist()
        prompts = [every[index] for index in order[position * self._prompts :][: self._prompts]]
        generator = self._generator("update", update)
        texts, seeds = [], []
        for prompt in prompts:
            where = (self._context.suite, self._context.suite_version, prompt.id)
            for index in torch.randperm(self._bank, generator=generator)[: self._images].tolist():
                texts.append(prompt.text)
                seeds.append(image_seed(*where, index, self._context.seed))
        return Batch(update, texts, seeds, self._images, generator, len(seeds))

    def _generator(self, purpose: str, number: int) -> torch.Generator:
        return torch.Generator().manual_seed(
            image_seed("finetuning", "1", purpose, number, self._context.seed)
        )
