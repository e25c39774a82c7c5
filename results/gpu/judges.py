"""How fast judges and feature networks of the usual sizes look at pictures, and what finding faces costs.

Random weights, single precision, pictures of 512 pixels that lie on the card.
"""

from argparse import Namespace
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from random_networks import clip, judge
from timing import rate, timed

from fairbench.errors import UserError
from fairbench.judges import Judge
from fairbench.judges.faces import yunet

FACES = 8
"""Pictures in which faces are looked for."""


def measure(options: Namespace) -> Iterator[tuple[str, Any]]:
    """Look at batches of pictures, then for faces."""
    device, tiny = options.device, options.tiny
    batches, side = ((2, 4), 64) if tiny else ((64, 256), 512)
    images = torch.rand(max(batches), 3, side, side, device=device)
    reader, vision = judge(device, tiny), clip("ViT-L-14", device, tiny)
    for batch in batches:
        judged = partial(face_of, reader, images[:batch])
        seen = partial(vision.batched, images[:batch])
        yield f"judge ResNet-34, batch {batch}", partial(rate, judged, batch, device)
        yield f"features CLIP ViT-L/14, batch {batch}", partial(rate, seen, batch, device)
    yield "faces, YuNet on the CPU", lambda: faces(options.yunet, images[:FACES])


def face_of(judge: Judge, images: torch.Tensor) -> torch.Tensor:
    """Return one of the numbers that a judge gives."""
    return judge.judge(images).face


def faces(path: Path | None, images: torch.Tensor) -> dict[str, Any] | str:
    """Return how many pictures a second YuNet goes through, copied from the card, if it is there."""
    if path is None:
        return "not measured: name its ONNX file with --yunet"
    try:
        detector = yunet(path, None)
    except UserError as error:
        return f"not measured: {error}"
    timing = timed(lambda: detector(images), images.device.type)
    return {"pictures_per_second": len(images) / timing.seconds}
