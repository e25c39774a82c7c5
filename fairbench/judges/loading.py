"""Judges on disk: a directory with ``judge.json`` and ``model.safetensors``, or a judge file (YAML)."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairbench.judges.confusion import DESCRIPTION, as_counts
from fairbench.judges.description import JudgeDescription
from fairbench.judges.judge import Judge
from fairbench.networks import (
    WEIGHTS,
    described,
    find,
    identity,
    load_weights,
    packaged,
    read_description,
    save_network,
    weights_file,
)
from fairbench.storage import sha256_of

if TYPE_CHECKING:
    import numpy as np


def list_judges() -> list[str]:
    """Return the names of the packaged judges."""
    return packaged("judges", DESCRIPTION)


def build_judge(config: dict[str, Any]) -> Judge:
    """Return an untrained judge whose network can be trained; ``config`` is the content of a ``judge.json``.

    Raises
    ------
    UserError
        A key is missing, unknown or faulty, or timm cannot build the architecture.
    """
    from fairbench.judges.network import JudgeNetwork

    description = described(config, JudgeDescription, "judge")
    return Judge(description, JudgeNetwork(description))


def save_judge(
    judge: Judge,
    directory: Path | str,
    measured: dict[str, Any],
    confusion: "Mapping[str, np.ndarray] | None" = None,
) -> None:
    """Write ``judge`` with half-precision weights, and what was ``measured``, such as accuracies.

    ``confusion``: attribute -> K x K counts, see `fairbench.judges.confusion.confusion_counts`.
    """
    if not isinstance(judge.description, JudgeDescription):
        raise TypeError(f"judge {judge.name} is put together by a judge file; it has no weights of its own")
    found = {"measured": measured, "confusion": as_counts(confusion or {})}
    description = judge.description.model_copy(update=found)
    save_network(judge.network, description, Path(directory), DESCRIPTION)


def load_judge(name: str | Path) -> Judge:
    """Load a packaged judge by its name, another from its directory or judge file; frozen, for evaluation.

    Raises
    ------
    UserError
        The name is unknown, a file is missing, damaged or a pickle, or description and weights do not fit.

    Examples
    --------
    >>> import fairbench
    >>> fairbench.load_judge("portraits-eval-a").attributes["gender"]
    ('female', 'male')
    """
    if Path(name).suffix in (".yaml", ".yml"):
        from fairbench.judges.composed import load_judge_file

        return load_judge_file(Path(name))
    from fairbench.judges.network import JudgeNetwork

    directory = find("judges", name, DESCRIPTION)
    description = read_description(directory / DESCRIPTION, JudgeDescription)
    network = JudgeNetwork(description)
    load_weights(network, directory)
    network.eval().requires_grad_(False)
    weights = frozenset([sha256_of(directory / WEIGHTS)])
    return Judge(description, network, identify_judge(name)[1], weights)


def identify_judge(name: str | Path) -> tuple[str, str]:
    """Return the name and the sha256 that a judge has when it is loaded, without building any network."""
    if Path(name).suffix in (".yaml", ".yml"):
        from fairbench.judges.composed import identify_judge_file

        return identify_judge_file(Path(name))
    directory = find("judges", name, DESCRIPTION)
    description = read_description(directory / DESCRIPTION, JudgeDescription)
    return description.name, identity(directory / DESCRIPTION, weights_file(directory))
