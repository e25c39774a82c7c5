"""The directory of a run: what lies where in it, and whether a run may use it at all."""

import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairbench.config import RunConfig, load_config
from fairbench.errors import UserError
from fairbench.storage import read_json, sha256_of
from fairbench.store.results import InputHashes, Provenance

CONFIG = "config.yaml"
"""The settings, `fairbench.config.RunConfig`; with the next one written first."""
PROVENANCE = "provenance.json"
"""`fairbench.store.results.Provenance`."""
IMAGES = "images"
"""A folder for each variant, in it one for each prompt."""
TRAINING = "training"
"""The state of an unfinished training."""
TRAINING_LOG = "training.parquet"
"""One row per update."""
ADAPTER = "adapter"
"""What the method learnt, see `fairbench.intervention_files`; there only when complete."""
FEATURES = "features.safetensors"
"""``{network}/{variant}`` -> N x D, and ``{network}/reference`` -> M x D."""
REFERENCE = "reference.parquet"
"""The M reference images as the primary judge sees them."""
MEASUREMENT = "measurement.json"
"""`fairbench.store.measurement.Measurement`."""
RECORDS = "records.parquet"
"""One row per image, with the columns of `fairbench.records`."""
METRICS = "metrics.json"
"""`fairbench.store.results.Metrics`."""
PICTURES = "pictures"
"""For people."""
STATUS = "status.json"
"""Written last: the run is done."""
MATRIX = "matrix.json"
"""Beside the runs of a matrix: a list of `fairbench.store.results.MatrixRow`."""
LONGEST = 200
"""Bytes of the name of a directory; file systems take 255 and less."""
FILES = (
    STATUS, METRICS, RECORDS, MEASUREMENT, REFERENCE, FEATURES, PICTURES, IMAGES, ADAPTER, TRAINING,
    TRAINING_LOG, CONFIG, PROVENANCE,
)  # fmt: skip
"""Everything a run writes at the top of its directory, in the order in which a new run removes it."""


@dataclass(frozen=True)
class RunDirectory:
    """The paths of one run."""

    path: Path

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    @property
    def finished(self) -> bool:
        """Whether the run is done: its status is written last."""
        return (self.path / STATUS).is_file()

    @property
    def adapter(self) -> Path:
        """What the method produced; there only when complete."""
        return self.path / ADAPTER

    @property
    def training(self) -> Path:
        """The state of an unfinished training."""
        return self.path / TRAINING

    def check(self, config: RunConfig, *, fresh: bool = False) -> None:
        """Raise ``UserError`` unless ``config`` may run here; write nothing.

        Only ``fresh`` lets a run replace another one; nothing lets it replace other files.
        """
        if self.path.exists() and not self.path.is_dir():
            raise UserError(f"{self.path} is a file: name another directory with --out")
        if not _writable(self.path):
            raise UserError(f"no permission to write to {self.path}: name another directory with --out")
        if not self.path.exists() or all(entry.name.startswith(".") for entry in self.path.iterdir()):
            return
        if not (self.path / PROVENANCE).is_file():
            raise UserError(
                f"{self.path} holds files that are not of a run: name another directory with --out"
            )
        if (self.path / CONFIG).is_file() and not fresh:
            self._check_same(config)

    def _check_same(self, config: RunConfig) -> None:
        held = load_config(self.path / CONFIG)
        if held.digest() == config.digest():
            return
        ours, theirs = _flat(config), _flat(held)
        differing = ", ".join(
            f"{key} is {_short(theirs.get(key, 'not set'))} there and {_short(ours.get(key, 'not set'))} here"
            for key in dict.fromkeys([*theirs, *ours])
            if key not in ours or key not in theirs or ours[key] != theirs[key]
        )
        raise UserError(
            f"{self.path} holds a different run ({differing}): "
            "name another directory with --out, or replace it with --fresh"
        )

    def check_inputs(self, now: Callable[[], InputHashes]) -> None:
        """Raise ``UserError`` where a run that is here was made of other files than there are now.

        ``now`` says what there is; it is asked only where there is something to compare it with.
        """
        if (self.path / CONFIG).is_file() and (found := _changed(self.input_hashes, now())):
            raise UserError(
                f"{self.path} was made of other files ({'; '.join(found)}): "
                "replace it with --fresh, or name another directory with --out"
            )

    def same_original(self, other: Path) -> bool:
        """Tell whether a run elsewhere was made of the same model and suite."""
        ours, theirs = self.input_hashes, RunDirectory(other).input_hashes
        return (ours.model, ours.suite) == (theirs.model, theirs.suite)

    @property
    def input_hashes(self) -> InputHashes:
        """The sha256 of what the run that is here was made of; nothing where there is none."""
        return self.provenance().sha256

    def provenance(self) -> Provenance:
        """Return where the run that is here comes from; nothing where there is none."""
        path = self.path / PROVENANCE
        return Provenance.of(read_json(path), path) if path.is_file() else Provenance()

    def clear(self) -> None:
        """Remove everything a run has written here, and nothing else."""
        for name in FILES:
            path = self.path / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


def default_directory(config: RunConfig) -> Path:
    """Return ``runs/<method>-<model>-<suite>-<attributes>-s<seed>``, options of method and model included.

    What is evaluated otherwise than by a run of its own begins with ``evaluate``.
    """
    parts = (
        *(("evaluate",) if config.images or config.adapter or config.until_width else ()),
        *((_name(str(Path(config.images).absolute()), {}),) if config.images else ()),
        _name(config.method, config.method_options),
        _name(config.model, config.model_options),
        _name(config.suite, {}),
        *((config.split,) if config.split != "test" else ()),
        "+".join(config.attributes),
        f"s{config.seed}",
    )
    return Path("runs") / _short_name("-".join(parts))


def _short_name(name: str) -> str:
    """Shorten a name that a file system would not take, with a hash by which it stays one of its own."""
    cut = name.encode()[:LONGEST].decode(errors="ignore")
    return name if cut == name else f"{cut}-{sha256_of(name.encode())[:8]}"


def _name(name: str, options: dict[str, Any]) -> str:
    """Shorten a name, path or Hub id to what a directory can be called."""
    stem = name.partition("@")[0].rstrip("/").rpartition("/")[2].removesuffix(".yaml")
    return re.sub(
        r"[^\w.=,+-]+", "_", ",".join([stem, *(f"{key}={value}" for key, value in options.items())])
    )


def _flat(config: RunConfig) -> dict[str, Any]:
    """Return the settings, every option of method and model by itself, such as ``method_options.rank``."""
    flat = config.model_dump(mode="json")
    for key in ("method_options", "model_options"):
        flat |= {f"{key}.{name}": value for name, value in flat.pop(key).items()}
    return flat


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _changed(before: InputHashes, now: InputHashes) -> list[str]:
    """Name what is not as it was; what was not hashed in a run of an earlier version is passed over."""
    found, (earlier, later) = [], (before.to_json(), now.to_json())
    for duty in later.keys() & earlier.keys():
        one, other = ({"": side} if isinstance(side, str) else side for side in (earlier[duty], later[duty]))
        names = sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))
        found += [" ".join((duty.replace("_", " "), ", ".join(names))).rstrip()] if names else []
    return sorted(found)


def _writable(path: Path) -> bool:
    nearest = next(place for place in (path, *path.absolute().parents) if place.exists())
    return os.access(nearest, os.W_OK | os.X_OK)
