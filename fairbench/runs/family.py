"""The embedded world: a model of it brings judges, feature networks and reference images of its own.

For any other model they must be named, because nothing here could guess.
"""

from pathlib import Path
from typing import Any

from fairbench.config import RunConfig
from fairbench.errors import UserError
from fairbench.storage import read_json

FAMILY = "portraits"
DEFAULTS: dict[str, Any] = {
    "judges": ("portraits-eval-a", "portraits-eval-b", "portraits-eval-c"),
    "training_judge": "portraits-train",
    "features": ("clip-eval", "ssl-eval"),
    "training_features": ("clip-train", "ssl-train"),
}
RENDERER = "portraits-renderer"


def of_the_family(model: str) -> bool:
    """Tell whether ``model`` draws the embedded world: by name, or by the ``family`` in fairbench.json."""
    if model in (FAMILY, RENDERER):
        return True
    note = Path(model) / "fairbench.json"
    if not note.is_file():
        return False
    noted = read_json(note, lambda _: f"{note} is damaged: build or copy the model again")
    return noted.get("family") == FAMILY


def named_networks(config: RunConfig, trains: bool) -> dict[str, Any]:
    """Return the networks that the settings name, and the family's own for what they leave open."""
    given = {key: getattr(config, key) for key in DEFAULTS}
    if of_the_family(config.model):
        return {key: given[key] or default for key, default in DEFAULTS.items()}
    needed = {
        "judges": "--judge",
        "training_judge": "--training-judge",
        "training_features": "--training-features",
    }
    missing = [
        option
        for key, option in needed.items()
        if not given[key] and (trains or (key == "judges" and not config.images))
    ]
    if missing:
        raise UserError(
            f"the model {config.model} brings no judges of its own: "
            f"name a directory with {', '.join(missing)}"
        )
    return given
