"""How often a model shows each class, as the training judge sees it: what editing methods steer by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from fairbench.seeding import image_seed

if TYPE_CHECKING:
    from fairbench.intervention import FitContext
    from fairbench.suites import Prompt


def spread(prompts: Sequence[Prompt], count: int) -> list[Prompt]:
    """Return ``count`` of the prompts (or all there are), evenly from the whole list: suites are sorted."""
    count = min(count, len(prompts))
    return [prompts[index * len(prompts) // count] for index in range(count)]


def class_shares(context: FitContext, prompts: Sequence[Prompt], images: int, first: int = 0) -> torch.Tensor:
    """Generate ``images`` images of each of n prompts and count them; n x K, rows sum to 1.

    Images without a face do not count; a prompt without any face gets the target, for lack of a reason to
    change it.

    Parameters
    ----------
    context
        Model, judge, attributes and target.
    prompts
        What to generate.
    images
        Per prompt.
    first
        Index of the first one: other images have other noise.
    """
    shares = torch.tensor(context.target.joint(context.space.names)).repeat(len(prompts), 1)
    sizes = [len(classes) for classes in context.space.classes.values()]
    for row, prompt in zip(shares, prompts, strict=True):
        where = (context.suite, context.suite_version, prompt.id)
        seeds = [image_seed(*where, index, context.seed) for index in range(first, first + images)]
        with torch.no_grad():
            logits = context.judge.logits(context.model.generate([prompt.text] * images, seeds))
        seen = torch.zeros(images, dtype=torch.int64)
        for name, size in zip(context.space.names, sizes, strict=True):
            seen = seen * size + logits[name].argmax(1).cpu()
        seen = seen[logits["face"].cpu() > 0]
        if len(seen):
            row.copy_(torch.bincount(seen, minlength=len(row)) / len(seen))
    return shares
