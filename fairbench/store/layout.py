"""The directory of a run: what lies where in it, and whether a run may use it at all."""

import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairbench.config import RunConfig, load_config
from fairbench.errors import UserError

CONTENTS = (
    "status.json", "metrics.json", "records.parquet", "measurement.json", "reference.parquet",
    "features.safetensors", "pictures", "images", "adapter", "training", "training.parquet", "config.yaml",
    "provenance.json",
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
        """Whether the run is done: ``status.json`` is written last."""
        return (self.path / "status.json").is_file()

    @property
    def adapter(self) -> Path:
        """What the method produced; there only when complete."""
        return self.path / "adapter"

    @property
    def training(self) -> Path:
        """The state of an unfinished training."""
        return self.path / "training"

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
        if not (self.path / "provenance.json").is_file():
            raise UserError(
                f"{self.path} holds files that are not of a run: name another directory with --out"
            )
        if (self.path / "config.yaml").is_file() and not fresh:
            self._check_same(config)

    def _check_same(self, config: RunConfig) -> None:
        held = load_config(self.path / "config.yaml")
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

    def check_contents(self, now: Callable[[], Mapping[str, Any]]) -> None:
        """Raise ``UserError`` where a run that is here was made of other files than there are now.

        ``now`` says what there is; it is asked only where there is something to compare it with.
        """
        if (self.path / "config.yaml").is_file() and (found := _changed(self.contents(), now())):
            raise UserError(
                f"{self.path} was made of other files ({'; '.join(found)}): "
                "replace it with --fresh, or name another directory with --out"
            )

    def same_original(self, other: Path) -> bool:
        """Tell whether a run elsewhere was made of the same model and suite."""
        ours, theirs = self.contents(), RunDirectory(other).contents()
        return all(ours.get(key) == theirs.get(key) for key in ("model", "suite"))

    def contents(self) -> dict[str, Any]:
        """Return the sha256 of what the run that is here was made of; nothing where there is none."""
        return self.provenance().get("sha256", {})

    def provenance(self) -> dict[str, Any]:
        """Return where the run that is here comes from; nothing where there is none."""
        path = self.path / "provenance.json"
        try:
            return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        except ValueError as error:
            raise UserError(f"{path}: cannot be read: {error}") from None

    def clear(self) -> None:
        """Remove everything a run has written here, and nothing else."""
        for name in CONTENTS:
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
    return Path("runs") / "-".join(parts)


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


def _changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Name what is not as it was; what was not hashed in a run of an earlier version is passed over."""
    found = []
    for duty in now.keys() & before.keys():
        one, other = ({"": side} if isinstance(side, str) else side for side in (before[duty], now[duty]))
        names = sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))
        found += [" ".join((duty.replace("_", " "), ", ".join(names))).rstrip()] if names else []
    return sorted(found)


def _writable(path: Path) -> bool:
    nearest = next(place for place in (path, *path.absolute().parents) if place.exists())
    return os.access(nearest, os.W_OK | os.X_OK)
