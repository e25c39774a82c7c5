"""Judges on disk: a directory with ``judge.json`` and ``model.safetensors``."""

from pathlib import Path
from typing import Any

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
)
from fairbench.storage import sha256_of

DESCRIPTION = "judge.json"


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


def save_judge(judge: Judge, directory: Path | str, measured: dict[str, Any]) -> None:
    """Write ``judge`` with half-precision weights and what was ``measured`` about it, such as accuracies."""
    description = judge.description.model_copy(update={"measured": measured})
    save_network(judge.network, description, Path(directory), DESCRIPTION)


def load_judge(name: str | Path) -> Judge:
    """Load a packaged judge by its name, or another from its directory; frozen, in evaluation mode.

    Raises
    ------
    UserError
        The name is unknown, a file is missing, damaged or a pickle, or description and weights do not fit.
    """
    from fairbench.judges.network import JudgeNetwork

    directory = find("judges", name, DESCRIPTION)
    description = read_description(directory / DESCRIPTION, JudgeDescription)
    network = JudgeNetwork(description)
    load_weights(network, directory)
    network.eval().requires_grad_(False)
    weights = directory / WEIGHTS
    return Judge(description, network, identity(directory / DESCRIPTION, weights), sha256_of(weights))
