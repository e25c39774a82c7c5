"""What a result is made of besides its settings: every file that they name, hashed without loading any.

So an earlier result is known to be of other files in no time, before it is returned or gone on with.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fairbench.config import RunConfig
from fairbench.features import identify_features
from fairbench.images.rows import ImageSet
from fairbench.judges import identify_judge
from fairbench.models.loading import model_directory
from fairbench.runs.family import named_networks
from fairbench.storage import sha256_of
from fairbench.store.results import InputHashes


def input_hashes(
    config: RunConfig,
    *,
    trains: bool = False,
    model: Any | None = None,
    reference: ImageSet | None = None,
    faces: ImageSet | None = None,
    others: Mapping[str, str],
) -> InputHashes:
    """Return the sha256 of everything that ``config`` names, by its duty, and of networks by their names.

    What no file stands for has no value: ``model``, in place of the one that is named, or that of a plugin.

    Parameters
    ----------
    config
        What names them.
    trains
        Whether something is learnt.
    model
        Takes the place of the one that is named.
    reference, faces
        What FID and KID compare with, and the real faces.
    others
        Sha256 of what else it is made of: ``suite``, ``images``, ``table``.

    Raises
    ------
    UserError
        Something is not there.
    """
    named = named_networks(config, trains)
    teachers = [named["training_judge"]] if trains else []
    learnt = [*named["training_features"], *filter(None, [config.face_features])] if trains else []
    found: dict[str, Any] = {
        "model": {} if config.images else {config.model: None if model else _model(config.model)},
        "judges": dict(map(identify_judge, named["judges"])),
        "training_judge": dict(map(identify_judge, teachers)),
        "features": dict(map(identify_features, named["features"])),
        "training_features": dict(map(identify_features, learnt)),
    }
    if config.adapter:
        found["adapter"] = _files(Path(config.adapter))
    if reference:
        found["reference"] = reference.sha256
    if faces:
        found["real_faces"] = faces.sha256
    return InputHashes(**found | dict(others))


def _model(name: str) -> str | None:
    directory = model_directory(name)
    return None if directory is None else _files(directory)


def _files(directory: Path) -> str:
    """Return the sha256 over all files of a directory that decide what it does."""
    parts = [
        f"{path.relative_to(directory).as_posix()} {sha256_of(path)}"
        for path in sorted(directory.rglob("*"))
        if path.suffix in (".json", ".safetensors", ".txt") and path.is_file()
    ]
    return sha256_of("\n".join(parts).encode())
