"""What is dear to make and the same for every run, kept between runs: tensors named by all they depend on.

It may be deleted at any time; one that cannot be read or written is done without.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from fairbench.errors import UserError
from fairbench.storage import atomic_write_tensors

if TYPE_CHECKING:
    from torch import Tensor

LIMIT = 2**30
"""Bytes of one room, above which what was not used for longest is removed."""
_NAME = re.compile(r"[0-9a-f]{64}\.safetensors")
_CHECKSUM = "sha256"


def cache_directory() -> Path | None:
    """Return where the cache is; None if it is turned off, or there is no home to put it in.

    ``FAIRBENCH_CACHE`` names it, or turns it off with ``off``; else it is ``fairbench`` in the user's cache
    directory: ``$XDG_CACHE_HOME``, ``~/.cache``, on macOS ``~/Library/Caches``.
    """
    given = os.environ.get("FAIRBENCH_CACHE")
    if given:
        return None if given == "off" else Path(given)
    try:
        own = Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache")
    except RuntimeError:
        return None
    return Path(os.environ.get("XDG_CACHE_HOME") or own) / "fairbench"


class Cache:
    """One room of the cache: a file for each key, safe for several processes at once.

    Parameters
    ----------
    room : str
        Name of the directory in `cache_directory`.
    limit : int
        Bytes, see `LIMIT`.
    """

    def __init__(self, room: str, limit: int = LIMIT) -> None:
        place = cache_directory()
        self._place = place / room if place else None
        self._limit = limit
        self._size = sum(size for _, size, _ in self._files())

    def get(self, key: str) -> dict[str, Tensor] | None:
        """Return what is kept under a hexadecimal sha256; None where there is nothing, or it is damaged."""
        from safetensors import SafetensorError
        from safetensors.torch import load

        if self._place is None:
            return None
        path = self._place / f"{key}.safetensors"
        try:
            tensors = load(path.read_bytes())
            checksum = bytes(tensors.pop(_CHECKSUM).tolist())
        except (OSError, SafetensorError, KeyError, ValueError):
            return None
        if checksum != _checksum(tensors):
            return None
        with suppress(OSError):
            os.utime(path)  # used now: others go first
        return tensors

    def put(self, key: str, tensors: Mapping[str, Tensor]) -> None:
        """Keep ``tensors`` under a hexadecimal sha256, where that is possible."""
        import torch

        if self._place is None:
            return
        path = self._place / f"{key}.safetensors"
        checked = {**tensors, _CHECKSUM: torch.tensor(list(_checksum(tensors)), dtype=torch.uint8)}
        with suppress(OSError, UserError):
            atomic_write_tensors(path, checked)
            self._size += path.stat().st_size
        if self._size > self._limit:
            self._shrink()

    def _shrink(self) -> None:
        """Remove what was not used for longest, until a fifth of the room is free."""
        files = sorted(self._files())
        self._size = sum(size for _, size, _ in files)
        for _, size, path in files:
            if self._size <= 0.8 * self._limit:
                return
            with suppress(OSError):
                path.unlink(missing_ok=True)
                self._size -= size

    def _files(self) -> list[tuple[int, int, Path]]:
        """Return time of last use, size and path of every file of ours."""
        found: list[tuple[int, int, Path]] = []
        if self._place is None:
            return found
        with suppress(OSError):
            for entry in os.scandir(self._place):
                if _NAME.fullmatch(entry.name):
                    with suppress(OSError):  # another process has just removed it
                        found.append((entry.stat().st_mtime_ns, entry.stat().st_size, Path(entry.path)))
        return found


def _checksum(tensors: Mapping[str, Tensor]) -> bytes:
    from safetensors.torch import save

    return hashlib.sha256(save({name: tensor.contiguous() for name, tensor in tensors.items()})).digest()
