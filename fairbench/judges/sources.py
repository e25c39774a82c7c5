"""Where the files of a judge come from: a folder beside the judge file, or a pinned commit on the Hub."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fairbench.errors import UserError
from fairbench.networks import download
from fairbench.storage import read_json, sha256_of


def located(source: str, base: Path, patterns: Sequence[str]) -> Path:
    """Return the folder that ``source`` names: ``org/name@commit`` on the Hub, or a path seen from ``base``.

    Raises
    ------
    UserError
        A Hub id is not pinned to a commit, or there is no such folder in ``base``.
    """
    if match := re.fullmatch(r"(\w[\w.-]*/\w[\w.-]*)@([0-9a-f]{40})", source):
        return download(match[1], match[2], list(patterns))
    if not (base / source).resolve().is_relative_to(base.resolve()):
        raise UserError(
            f"{source}: must lie in the folder of the judge file, {base.resolve()}: move it there"
        )
    if (base / source).is_dir():
        return base / source
    if re.fullmatch(r"\w[\w.-]*/\w[\w.-]*(@.*)?", source):
        raise UserError(
            f"{source}: no such folder in {base}, and no Hub id with its commit: "
            "write org/name@ and the 40 digits of the commit"
        )
    raise UserError(f"{source}: there is no such folder in {base}")


def check_sha256(path: Path, expected: str | None) -> None:
    """Raise a ``UserError`` where a file is not the one that was pinned."""
    if expected and (found := sha256_of(path)) != expected:
        raise UserError(f"{path}: has the sha256 {found}, not the pinned {expected}: get the right file")


def settings_of(path: Path) -> dict[str, Any]:
    """Return the JSON object of a file that may be missing; a ``UserError`` where it is damaged."""
    if not path.is_file():
        return {}
    return read_json(path, lambda _: f"{path}: is not a JSON object; get the file again")
