"""Image classifiers of transformers, timm and torchvision as readers of attributes, through a label map."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from fairbench.errors import UserError, one_line, unknown
from fairbench.judges.judge_file import Classifier
from fairbench.judges.sources import settings_of
from fairbench.networks import backbone, load_weights

if TYPE_CHECKING:
    from torch import Tensor

CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"
Published = dict[str, Any]
"""What the files beside the weights say: outputs, architecture, kwargs, image_size, mean, std."""


class Normalise(nn.Module):
    """``(image - mean) / std`` per channel, of images in [0, 1]."""

    mean: "Tensor"
    std: "Tensor"

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))

    def forward(self, images: "Tensor") -> "Tensor":
        """Return the same shape."""
        return (images - self.mean) / self.std


class ClassifierReader(nn.Module):
    """A classifier whose outputs are merged into the classes of attributes."""

    tight = False

    def __init__(
        self, network: nn.Module, normalise: Normalise, image_size: int, members: dict[str, list[list[int]]]
    ) -> None:
        super().__init__()
        self.network, self.normalise = network, normalise
        self.image_size, self.members = image_size, members

    def forward(self, faces: "Tensor") -> "dict[str, Tensor]":
        r"""Return attribute -> N x K logits of N x 3 x H x W crops.

        .. math:: \ell_k = \log \sum_{j \in k} e^{z_j}

        so that the softmax over classes is the sum of the softmax over their outputs.
        """
        outputs = self.network(self.normalise(faces))
        logits = getattr(outputs, "logits", outputs)
        return {
            name: torch.stack([logits[:, places].logsumexp(1) for places in classes], 1)
            for name, classes in self.members.items()
        }


def load_classifier(network: Classifier, directory: Path) -> ClassifierReader:
    """Load a classifier from the files of its library.

    Raises
    ------
    UserError
        A file is damaged or missing, the library cannot build the network, something it needs is stated
        nowhere, or label map and outputs do not fit.
    """
    where = str(directory)
    if network.kind == "transformers":
        module, published = _transformers(directory)
    else:
        module, published = None, _timm_config(directory)
    stated = published | network.model_dump(
        exclude_none=True, include={"outputs", "architecture", "image_size", "mean", "std"}
    )
    needed = {"outputs", "image_size", "mean", "std"} | ({"architecture"} if module is None else set())
    if missing := sorted(needed - stated.keys()):
        raise UserError(
            f"{where}: nothing beside the weights tells {', '.join(missing)}: state it in the judge file"
        )
    outputs = tuple(stated["outputs"])
    members = label_map(network, outputs, where)
    if module is None:
        module = _untrained(network.kind, stated, len(outputs), where)
        load_weights(module, directory)
    elif published["count"] != len(outputs):
        raise UserError(f"{where}: has {published['count']} outputs, but {len(outputs)} are named")
    if not all(math.isfinite(value) and value > 0 for value in stated["std"]):
        raise UserError(f"{where}: std {stated['std']} must be above 0")
    return ClassifierReader(module, Normalise(stated["mean"], stated["std"]), stated["image_size"], members)


def label_map(network: Classifier, outputs: tuple[str, ...], where: str) -> dict[str, list[list[int]]]:
    """Return attribute -> class -> places of its outputs; every output must be used, or said to be unused.

    Raises
    ------
    UserError
        An output is named twice, unknown, used twice by an attribute, or left out.
    """
    if len(set(outputs)) < len(outputs):
        raise UserError(f"{where}: two of its outputs have the same name: name each one once under outputs")
    unused = () if network.unused == "rest" else network.unused
    used = [name for classes in network.attributes.values() for names in classes.values() for name in names]
    for name in (*used, *unused):
        if name not in outputs:
            raise unknown(f"output of {where}", name, outputs)
    for attribute, classes in network.attributes.items():
        names = [name for group in classes.values() for name in group]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise UserError(
                f"{where}: {attribute} uses {', '.join(twice)} twice: put each output into one class"
            )
    left = [name for name in outputs if name not in used and name not in unused]
    if left and network.unused != "rest":
        raise UserError(
            f"{where}: no class uses the outputs {', '.join(left)}: "
            "add them to a class, or list them under unused"
        )
    return {
        attribute: [[outputs.index(name) for name in names] for names in classes.values()]
        for attribute, classes in network.attributes.items()
    }


def _untrained(kind: str, stated: Published, classes: int, where: str) -> nn.Module:
    architecture = stated["architecture"]
    if kind == "timm":
        return backbone(architecture, stated.get("kwargs", {}), where, classes)
    from torchvision import models

    if architecture not in (known := models.list_models(module=models)):
        raise unknown("torchvision classifier", architecture, known)
    return models.get_model(architecture, weights=None, num_classes=classes)


def _timm_config(directory: Path) -> Published:
    """Read the ``config.json`` that timm publishes with a model; torchvision publishes none."""
    config = settings_of(directory / CONFIG)
    seen = config.get("pretrained_cfg") or {}
    found = {
        "outputs": config.get("label_names"),
        "architecture": config.get("architecture"),
        "kwargs": {
            key: value
            for key, value in (config.get("model_args") or {}).items()
            if key not in ("in_chans", "num_classes")
        },
        "image_size": (seen.get("input_size") or [None])[-1],
        "mean": seen.get("mean"),
        "std": seen.get("std"),
    }
    return {key: value for key, value in found.items() if value is not None}


def _transformers(directory: Path) -> tuple[nn.Module, Published]:
    """Load a transformers classifier, all of whose weights must be in its file."""
    from transformers import AutoModelForImageClassification

    try:
        with _silence():
            network, report = AutoModelForImageClassification.from_pretrained(
                directory,
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
    except Exception as error:  # whatever a damaged file makes the library raise
        raise UserError(f"{directory}: transformers cannot load it: {one_line(error)}") from error
    if missing := sorted(report["missing_keys"]):
        raise UserError(f"{directory}: the weights lack {missing[0]}; get the whole file of this classifier")
    seen = settings_of(directory / PREPROCESSOR)
    size, normalised = seen.get("size"), seen.get("do_normalize", True)
    found = {
        "outputs": [network.config.id2label[place] for place in sorted(network.config.id2label)],
        "count": network.config.num_labels,
        "image_size": next(iter(size.values())) if isinstance(size, dict) else size,
        "mean": seen.get("image_mean") if normalised else (0.0,) * 3,
        "std": seen.get("image_std") if normalised else (1.0,) * 3,
    }
    return network.float(), {key: value for key, value in found.items() if value is not None}


@contextmanager
def _silence() -> Iterator[None]:
    """Keep the bars and reports of transformers off the screen: what matters of them is raised."""
    from transformers.utils import logging

    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()
