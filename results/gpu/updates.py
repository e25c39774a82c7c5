"""One update of direct finetuning, ready to be called again and again, and what it costs.

The judge and the feature networks that it learns with have the usual sizes and random weights.
"""

import gc
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import torch
from cost import flops
from random_networks import clip, dino, judge
from timing import timed

from fairbench.attributes import AttributeSpace, TargetDistribution
from fairbench.finetuning.adapters import adapter
from fairbench.finetuning.processes import Processes
from fairbench.finetuning.update import Update
from fairbench.intervention import FitContext
from fairbench.methods.biased_dft import BiasedDFT
from fairbench.models.text_to_image import TextToImage
from fairbench.suites import load_suite

PROMPTS = 3
"""In an update."""
Ready = AbstractContextManager[Callable[[], None]]
"""Yields an update that can be called."""
FEWEST = 2
"""Images of a prompt that can be balanced."""


def learning(model: TextToImage, device: str, tiny: bool) -> FitContext:
    """Return what finetuning learns from."""
    suite, space = load_suite("occupations"), AttributeSpace.parse("gender")
    return FitContext(
        model=model,
        prompts=suite.prompts("train"),
        space=space,
        target=TargetDistribution.parse("uniform", space),
        judge=judge(device, tiny),
        features=[clip("ViT-B-32", device, tiny), dino(device, tiny)],
        updates=1,
        seed=0,
        directory=Path(),  # a single update keeps nothing
        suite=suite.name,
        suite_version=suite.version,
        log=lambda row: None,
    )


def settings(model: TextToImage, images: int, steps: int, timesteps: int | None) -> Any:
    """Return those of an update with ``images`` of every prompt, with nothing left open."""
    config = BiasedDFT.Config(
        prompts_per_update=PROMPTS,
        images_per_prompt=images,
        steps=steps,
        timesteps_per_update=timesteps,
    )
    return BiasedDFT(config).on(model).config


@contextmanager
def our_update(context: FitContext, config: Any) -> Iterator[Callable[[], None]]:
    """Yield our update, its original pictures known, as they are in every epoch but the first."""
    with adapter(context.model, config.tune, config.rank, context.seed) as tuned:
        update = Update.of(context, config, BiasedDFT(config).rule, tuned, Processes(), "random weights")
        update.objective.originals.look_up(update.batches[0].pictures, context.model.device)
        optimiser = torch.optim.AdamW(tuned.parameters.values())

        def call() -> None:
            optimiser.zero_grad()
            update(0)
            optimiser.step()

        yield call


def price(ready: Ready, device: str, peak: float) -> dict[str, Any]:
    """Count what an update computes, which also warms it up, then time it; ``peak`` operations a second."""
    with ready as update:
        work = flops(update)
        timing = timed(update, device, repeats=1, warm_ups=0)
    return {
        "seconds": timing.seconds,
        "peak_gb": timing.peak_gb,
        "tflop": work / 1e12,
        "utilisation": work / timing.seconds / peak,
    }


def fitting(measure: Callable[[int], dict[str, Any]], images: int) -> dict[str, Any]:
    """Measure with as many images of a prompt as fit: half as many wherever the memory is too small."""
    while True:
        try:
            return {"images": PROMPTS * images, **measure(images)}
        except torch.cuda.OutOfMemoryError:
            if images // 2 < FEWEST:
                raise
        images //= 2  # here, when what the failed one held is free
        gc.collect()
        torch.cuda.empty_cache()
