"""What a finished run made: sha256, size and time of every file, so that a change is noticed by who reads it.

Size and time are compared first, and the content where these differ, or wherever that is asked for.
"""

from collections.abc import Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from fairbench.errors import UserError
from fairbench.storage import atomic_write_json, read_json, sha256_of
from fairbench.store.layout import MADE, MANIFEST, METRICS, RunDirectory
from fairbench.store.results import SCHEMA_VERSION, Result, refuse_newer

NAMED = 3
"""Files that are named where more are not as they were."""


class MadeFile(Result):
    """One file as the run made it."""

    sha256: str
    bytes: int
    modified: int
    """Nanoseconds since 1970."""

    @classmethod
    def at(cls, path: Path) -> "MadeFile":
        """Describe what there is at ``path``."""
        status = path.stat()
        return cls(sha256=sha256_of(path), bytes=status.st_size, modified=status.st_mtime_ns)

    def fault(self, path: Path, verify: bool) -> str | None:
        """Say what has become of the file at ``path``; None where it is as it was made."""
        if not path.exists():
            return "is gone"
        if not path.is_file():
            return "is no file any more"
        status = path.stat()
        touched = (status.st_size, status.st_mtime_ns) != (self.bytes, self.modified)
        return "has changed" if (touched or verify) and sha256_of(path) != self.sha256 else None


class Manifest(Result):
    """The content of ``manifest.json``: the path of every file in the directory of the run -> the file."""

    schema_version: int
    files: dict[str, MadeFile]


def write_manifest(place: RunDirectory, images: Iterable[str]) -> None:
    """Write down what a run has made, when all is there but its status.

    Parameters
    ----------
    place
        The directory of the run.
    images
        As the records name them; those that lie elsewhere are not of this run.

    Raises
    ------
    UserError
        Something is not there any more.
    """
    made = [entry for name in MADE for entry in (place / name, *sorted((place / name).rglob("*")))]
    paths = [entry for entry in made if entry.is_file()]
    paths += [place / image for image in images if not Path(image).is_absolute()]
    try:
        with ThreadPoolExecutor() as pool:
            files = dict(zip(map(place.named, paths), pool.map(MadeFile.at, paths), strict=True))
    except FileNotFoundError as error:
        raise UserError(
            f"{error.filename}: was removed while the run was at work: issue the same command again"
        ) from None
    _write(place, files)


def note_made(place: RunDirectory, name: str) -> None:
    """Write down that a file of a finished run was made anew; nothing where the run keeps no manifest."""
    manifest = read_manifest(place)
    if manifest is not None:
        _write(place, manifest.files | {name: MadeFile.at(place / name)})


def check_made(place: RunDirectory, names: Collection[str], *, verify: bool = False) -> None:
    """Raise a ``UserError`` where a finished run is not as it was made.

    Parameters
    ----------
    place
        The directory of the run; one of an earlier version, which keeps no manifest, is not checked.
    names
        What is going to be read: files, or folders with all that is in them.
    verify
        Look at the content of every file, also where size and time are as they were.
    """
    manifest = read_manifest(place)
    if manifest is None:
        return
    wanted, known, found = {*names}, set[str](), dict[str, str | None]()
    for name, file in manifest.files.items():
        either = {name, name.split("/")[0]}
        known |= either
        if either & wanted:
            found[name] = file.fault(place / name, verify)
    found |= {name: "is not of this run" for name in names if name not in known and (place / name).exists()}
    faults = [f"{name} {fault}" for name, fault in found.items() if fault]
    if not faults:
        return
    more = [f"{len(faults) - NAMED} more"] if len(faults) > NAMED else []
    remedy = "restore it from a copy, or begin anew with --fresh"
    if [name for name, fault in found.items() if fault] == [METRICS]:
        remedy = f"fairbench score {place.path} computes it anew"
    raise UserError(f"{place.path} is not as it was made: {', '.join(faults[:NAMED] + more)}: {remedy}")


def read_manifest(place: RunDirectory) -> Manifest | None:
    """Return what a finished run has made; None where it keeps no manifest, or is not finished.

    Raises
    ------
    UserError
        The manifest is damaged, or was lost.
    """
    path = place / MANIFEST
    if not place.finished:
        return None
    if not path.exists():
        if place.provenance().config_sha256:  # written since there are manifests
            raise UserError(f"{path} is gone: restore it from a copy, or begin anew with --fresh")
        return None
    content = read_json(path)
    refuse_newer(content, path)
    return Manifest.of(content, path)


def _write(place: RunDirectory, files: dict[str, MadeFile]) -> None:
    manifest = Manifest(schema_version=SCHEMA_VERSION, files=files)
    atomic_write_json(place / MANIFEST, manifest.to_json())
