"""Image classifiers of transformers, timm and torchvision as readers of attributes, through a label map."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from fairbench.errors import UserError, one_line, unknown
from fairbench.judges.judge_file import Classifier
from fairbench.judges.preparation import Frame, Normalise, of_timm, of_transformers
from fairbench.judges.sources import settings_of
from fairbench.networks import backbone, load_weights

if TYPE_CHECKING:
    from torch import Tensor

CONFIG = "config.json"
Published = dict[str, Any]
"""What the files beside the weights say: outputs, architecture, kwargs, frame, mean, std."""


class ClassifierReader(nn.Module):
    """A classifier whose outputs are merged into the classes of attributes."""

    tight = False

    def __init__(
        self, network: nn.Module, normalise: Normalise, frame: Frame, members: dict[str, list[list[int]]]
    ) -> None:
        super().__init__()
        self.network, self.normalise = network, normalise
        self.frame, self.members = frame, members

    @property
    def image_size(self) -> int:
        """The size to which a face is scaled; its middle is seen."""
        return self.frame.scaled

    def forward(self, faces: "Tensor") -> "dict[str, Tensor]":
        r"""Return attribute -> N x K logits of N x 3 x H x W crops.

        .. math:: \ell_k = \log \sum_{j \in k} e^{z_j}

        so that the softmax over classes is the sum of the softmax over their outputs.
        """
        outputs = self.network(self.normalise(self.frame.cut(faces)))
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
    given = network.model_dump(exclude_none=True, include={"outputs", "architecture", "mean", "std"})
    if network.image_size:
        given["frame"] = Frame.whole(network.image_size)
    if network.kind == "transformers":
        module, published = _transformers(directory)
        published |= {} if given.keys() >= {"frame", "mean", "std"} else of_transformers(directory)
    else:
        module, published = None, _timm_config(directory)
    stated = published | given
    needed = {"outputs", "frame", "mean", "std"} | ({"architecture"} if module is None else set())
    if missing := sorted(("image_size" if key == "frame" else key) for key in needed - stated.keys()):
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
    return ClassifierReader(module, Normalise(stated["mean"], stated["std"]), stated["frame"], members)


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
    }
    return of_timm(seen) | {key: value for key, value in found.items() if value is not None}


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
    labels = network.config.id2label
    outputs = [labels[place] for place in sorted(labels)]
    return network.float(), {"outputs": outputs, "count": network.config.num_labels}


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
