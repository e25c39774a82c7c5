"""Whether a card computes what a CPU does: pictures, judges, features, targets, gradients, trainings.

Everything is done with the embedded model, in single precision and, on a card, in bfloat16.
"""

from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor
from trainings import gradient_difference, resumed_difference

from fairbench.alignment import expected_targets
from fairbench.attributes import AttributeSpace, TargetDistribution
from fairbench.features import cosine, load_features
from fairbench.features.loading import list_features
from fairbench.judges import list_judges, load_judge
from fairbench.models.loading import load_model
from fairbench.models.text_to_image import TextToImage
from fairbench.suites import load_suite

MODEL = "portraits"


@dataclass(frozen=True)
class Size:
    """How much is compared: ``pictures``, in ``batches`` that are set against the ``usual`` one.

    At most ``calls`` batches of one size are made: all pictures one by one would take too long. ``update``:
    settings of the method.
    """

    pictures: int
    batches: tuple[int, ...]
    usual: int
    calls: int
    steps: int | None
    update: Mapping[str, int]


FULL = Size(64, (64, 16, 4, 1), 16, 16, None, {})
QUICK = {"prompts_per_update": 1, "images_per_prompt": 2, "steps": 2, "timesteps_per_update": 1}
TINY = Size(4, (4, 2, 1), 2, 3, 2, QUICK)


def measure(options: Namespace) -> Iterator[tuple[str, Any]]:
    """Compare the card with the CPU, then batches with batches, which takes longest."""
    device, size = options.device, TINY if options.tiny else FULL
    cpu = Pictures("cpu", "float32", size)
    card = {precision: Pictures(device, precision, size) for precision in precisions(device)}
    for precision, pictures in card.items():
        yield f"pictures, {precision}, against the CPU", partial(pictures.against, cpu)
    for name in list_judges():
        yield f"judge {name}", partial(judge_difference, name, cpu.usual, device)
    for name in list_features():
        yield f"features {name}", partial(feature_difference, name, cpu.usual, device)
    yield "expected targets", partial(target_difference, cpu.usual, device)
    single, usual = card["float32"], Pictures(device, "auto", size)
    yield "gradient, float32", lambda: gradient_difference(cpu.model, single.model, size.update)
    yield "training, resumed", lambda: resumed_difference(usual.model, size.update)
    for precision, pictures in card.items():
        for batch in size.batches:
            name = f"pictures, {precision}, batch {batch} against {size.usual}"
            yield name, partial(pictures.in_batches_of, batch)


class Pictures:
    """Some pictures of the embedded model on one device, in one precision."""

    def __init__(self, device: str, precision: str, size: Size) -> None:
        self._device, self._precision, self._size = device, precision, size

    @cached_property
    def model(self) -> TextToImage:
        """The model that makes them."""
        return load_model(MODEL, device=self._device, dtype=self._precision)

    @cached_property
    def usual(self) -> Tensor:
        """All of them in batches of the usual size."""
        return self._made(self._size.pictures, self._size.usual)

    def against(self, other: "Pictures") -> dict[str, float]:
        """Compare them with those of another device or precision."""
        return pixel_difference(self.usual, other.usual)

    def in_batches_of(self, batch: int) -> dict[str, float]:
        """Compare them, or the first ones, with the same made in batches of another size."""
        count = min(self._size.pictures, self._size.calls * batch)
        return {"pictures": count, **pixel_difference(self._made(count, batch), self.usual[:count])}

    def _made(self, count: int, batch: int) -> Tensor:
        prompts = load_suite("occupations").prompts("test")
        texts = [prompts[number % len(prompts)].text for number in range(count)]
        return self.model.generate(texts, range(count), batch_size=batch, steps=self._size.steps)


def precisions(device: str) -> Sequence[str]:
    """Return what the embedded model can be loaded in; a CPU has float32 alone."""
    return ("float32", "bfloat16") if device == "cuda" else ("float32",)


def pixel_difference(images: Tensor, others: Tensor) -> dict[str, float]:
    """Compare pictures of 8 bits, in units of 1/255: the largest and mean difference, and how many differ."""
    apart = (images.mul(255).round() - others.mul(255).round()).abs()
    return {
        "largest": apart.max().item(),
        "mean": apart.mean().item(),
        "share": (apart > 0).float().mean().item(),
    }


def judge_difference(name: str, images: Tensor, device: str) -> dict[str, float]:
    """Compare what a judge says of the same pictures on both devices."""
    judge = load_judge(name)
    ours, theirs = judge.judge(images), judge.to(device).judge(images)
    pairs = [(ours.face, theirs.face.cpu())]
    pairs += [(values, theirs.probabilities[key].cpu()) for key, values in ours.probabilities.items()]
    classes = [(one.argmax(1) == other.argmax(1)).float().mean().item() for one, other in pairs[1:]]
    return {
        "largest": max((one - other).abs().max().item() for one, other in pairs),
        "same_class": min(classes),
    }


def feature_difference(name: str, images: Tensor, device: str) -> dict[str, float]:
    r"""Compare features of the same pictures: the least cosine, and the largest :math:`|f' - f| / |f|`."""
    network = load_features(name)
    ours = network.batched(images)
    theirs = network.to(device).batched(images).cpu()
    apart = (theirs - ours).norm(dim=1) / ours.norm(dim=1)
    return {"least_cosine": cosine(ours, theirs).min().item(), "largest_relative": apart.max().item()}


def target_difference(images: Tensor, device: str) -> dict[str, Any]:
    """Compare expected targets that are found from the same probabilities on both devices."""
    space = AttributeSpace.parse("gender,race")
    target = TargetDistribution.parse("uniform", space).probabilities
    judged = load_judge("portraits-train").judge(images).probabilities
    ours, theirs = (
        expected_targets(
            {name: judged[name].to(where) for name in space.names},
            target,
            generator=torch.Generator().manual_seed(0),
        )
        for where in ("cpu", device)
    )
    return {
        "largest": max((ours[name].q - theirs[name].q.cpu()).abs().max().item() for name in ours),
        "same_labels": all(torch.equal(ours[name].label, theirs[name].label.cpu()) for name in ours),
    }
