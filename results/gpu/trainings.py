"""Whether finetuning on a card does what it does on a CPU, and goes on where it was stopped.

With the embedded model, its judge and its feature networks, by the door that `fairbench run` uses.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from fairbench.attributes import AttributeSpace, TargetDistribution
from fairbench.features import load_features
from fairbench.finetuning import engine
from fairbench.intervention import FitContext
from fairbench.judges import load_judge
from fairbench.methods.biased_dft import BiasedDFT
from fairbench.models.text_to_image import TextToImage
from fairbench.suites import load_suite

UPDATES, STOPPED = 4, 2
"""Of a training, and those after which another one is stopped."""


class Stopped(Exception):
    """Ends a training before its time."""


def gradient_difference(
    cpu: TextToImage, model: TextToImage, settings: Mapping[str, Any]
) -> dict[str, float]:
    r"""Compare the gradients of two updates over all that learns: :math:`|g' - g| / |g|`."""
    pairs = zip(gradients(cpu, settings), gradients(model, settings), strict=True)
    return {
        f"update_{number}": ((theirs - ours).norm() / ours.norm()).item()
        for number, (ours, theirs) in enumerate(pairs, 1)
    }


def gradients(model: TextToImage, settings: Mapping[str, Any]) -> list[Tensor]:
    """Return the gradient of each of two updates, unclipped."""
    found = []

    def log(row: dict[str, Any]) -> None:
        learning = [part for part in model.pipeline.text_encoder.parameters() if part.requires_grad]
        found.append(torch.cat([part.grad.flatten().double().cpu() for part in learning]))

    with TemporaryDirectory() as place:
        fitted(model, Path(place), {"clip": None, **settings}, 2, log)
    return found


def resumed_difference(model: TextToImage, settings: Mapping[str, Any]) -> dict[str, float]:
    """Train, once more, and with a stop; compare the averaged parameters: the largest difference.

    What differs between the first two is what the card does not repeat, whatever was resumed.
    """

    def stop(row: dict[str, Any]) -> None:
        if row["update"] > STOPPED:  # told before it is saved
            raise Stopped

    with TemporaryDirectory() as place:
        one, two, three = (Path(place) / name for name in ("one", "two", "three"))
        whole, again = (fitted(model, directory, settings, UPDATES) for directory in (one, two))
        with patch.object(engine, "SAVE_EVERY", 1), suppress(Stopped):
            fitted(model, three, settings, UPDATES, stop)
        done: list[int] = []
        resumed = fitted(model, three, settings, UPDATES, lambda row: done.append(row["update"]))
    return {
        "resumed_with_update": done[0],
        "resumed": largest(whole, resumed),
        "repeated": largest(whole, again),
    }


def largest(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> float:
    """Return the largest difference between tensors of the same names."""
    return max((ours[name] - theirs[name]).abs().max().item() for name in ours)


def fitted(
    model: TextToImage,
    directory: Path,
    settings: Mapping[str, Any],
    updates: int,
    log: Callable[[dict[str, Any]], None] = lambda row: None,
) -> dict[str, Tensor]:
    """Return what `biased_dft` learns, given what `fairbench run` gives it with the embedded model."""
    suite, space = load_suite("occupations"), AttributeSpace.parse("gender")
    context = FitContext(
        model=model,
        prompts=suite.prompts("train"),
        space=space,
        target=TargetDistribution.parse("uniform", space),
        judge=load_judge("portraits-train").to(model.device),
        features=[load_features(name).to(model.device) for name in ("clip-train", "ssl-train")],
        updates=updates,
        seed=0,
        directory=directory,
        suite=suite.name,
        suite_version=suite.version,
        log=log,
    )
    return BiasedDFT(BiasedDFT.Config(**settings)).fit(context).tensors
