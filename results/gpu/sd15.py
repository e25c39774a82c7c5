"""Stable Diffusion 1.5 with random weights: pictures a second, and the price of an update of finetuning.

Beside diffusers' own pipeline, and beside the procedure of the authors of arXiv 2311.07604.
"""

from argparse import Namespace
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from authors import authors_update
from cost import operations, product_rate
from stable_diffusion import stable_diffusion
from timing import once, rate
from updates import Ready, fitting, learning, our_update, price, settings

from fairbench.models.text_to_image import Defaults, TextToImage

PROMPT = "the face of a nurse"


@dataclass(frozen=True)
class Size:
    """Of all that is measured; ``few`` steps learn, ``images`` of every prompt, ``side`` of the matrices."""

    batches: tuple[int, int] = (1, 16)
    steps: int = 20
    few: int = 5
    images: int = 8
    side: int = 8192


TINY = Size((1, 2), 2, 1, 2, 256)


def measure(options: Namespace) -> Iterator[tuple[str, Any]]:
    """Make pictures, then updates, then pictures with a compiled U-Net."""
    device, tiny, size = options.device, options.tiny, TINY if options.tiny else Size()
    peak = product_rate(device, size.side)
    yield "matrix product", {"tflops": peak / 1e12}
    pipeline = stable_diffusion(device, tiny)
    yield "millions of parameters", {name: millions(pipeline, name) for name in ("unet", "text_encoder")}
    for batch in size.batches:
        theirs = partial(plain, pipeline, batch, size.steps)
        yield f"diffusers, batch {batch}", partial(rate, theirs, batch, device)
    # only now, because it changes the layout of the networks
    model = TextToImage(pipeline, "random-weights", Defaults(steps=size.steps))
    for batch in size.batches:
        ours = partial(generate, model, batch)
        yield f"generate, batch {batch}", partial(rate, ours, batch, device)
    context = learning(model, device, tiny)

    def update(images: int, timesteps: int | None, kind: Any = our_update) -> Any:
        return kind(context, settings(model, images, size.steps, timesteps))

    def priced(*kind: Any) -> dict[str, Any]:
        return fitting(lambda images: price(update(images, *kind), device, peak), size.images)

    def spent() -> dict[str, Any]:
        return fitting(lambda images: where(update(images, size.few), device), size.images)

    yield f"update, all {size.steps} steps learn", partial(priced, None)
    yield f"update, {size.few} of {size.steps} steps learn", partial(priced, size.few)
    yield "where its time goes", spent
    yield "update, the authors", partial(priced, None, authors_update)
    yield f"generate, batch {batch}, compiled", partial(compiled, model, ours, batch, device, tiny)


def millions(pipeline: Any, name: str) -> float:
    """Return the number of parameters of one network."""
    return round(sum(part.numel() for part in getattr(pipeline, name).parameters()) / 1e6, 2)


def plain(pipeline: Any, batch: int, steps: int) -> torch.Tensor:
    """Make pictures with diffusers' own pipeline."""
    asked = {"num_inference_steps": steps, "guidance_scale": Defaults().guidance, "output_type": "pt"}
    return pipeline([PROMPT] * batch, **asked).images


def generate(model: TextToImage, batch: int) -> torch.Tensor:
    """Make pictures with ours and the same settings."""
    return model.generate([PROMPT] * batch, list(range(batch)), batch_size=batch)


def compiled(
    model: TextToImage, ours: Callable[[], torch.Tensor], batch: int, device: str, tiny: bool
) -> dict[str, Any]:
    """Make pictures with a compiled U-Net; the first call, which compiles it, is timed apart."""
    model.pipeline.unet.compile(backend="eager" if tiny else "inductor")
    first, _ = once(ours, device)
    return {"first_seconds": first, **rate(ours, batch, device)}


def where(ready: Ready, device: str) -> dict[str, Any]:
    """Tell where the time of an update goes; earlier ones have warmed the card up."""
    with ready as update:
        return {"operations": operations(update, device)}
