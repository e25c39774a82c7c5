"""Files that are there whole or not at all, and an error of the disk in words the user can act on.

Every writer makes its bytes in memory and hands them over here, so that nothing else has to know how.
"""

import errno
import fcntl
import hashlib
import io
import json
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from fairbench.errors import UserError

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

LARGEST_YAML, LARGEST_JSON = 4 * 2**20, 64 * 2**20
"""Bytes of a file: what people write is far smaller."""
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
_FULL = (errno.ENOSPC, errno.EDQUOT)
_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS)
_OCCUPIED = (errno.ENOTDIR, errno.EISDIR, errno.EEXIST)
_UNUSABLE = (errno.ENAMETOOLONG, errno.ELOOP)


def atomic_write_bytes(path: Path | str, data: bytes) -> None:
    """Write ``data`` to ``path`` whole or not at all; directories on the way are made.

    A temporary file beside it is written, fsynced and renamed, then the directory is fsynced.

    Raises
    ------
    UserError
        The disk is full, writing is not permitted, or something stands in the way; the old file is untouched.
    """
    path = Path(path)
    temporary = path.with_name(f".{uuid4().hex[:12]}.tmp")
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        _fsync_directory(path.parent)


def atomic_write_text(path: Path | str, text: str) -> None:
    """Write ``text`` as UTF-8, see `atomic_write_bytes`."""
    atomic_write_bytes(path, text.encode())


def atomic_write_json(path: Path | str, content: Any) -> None:
    """Write ``content`` as indented JSON, see `atomic_write_bytes`; NaN is refused, "no value" is null."""
    atomic_write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def atomic_write_yaml(path: Path | str, content: Any) -> None:
    """Write ``content`` as YAML with its keys in order, see `atomic_write_bytes`."""
    import yaml

    atomic_write_text(path, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


def atomic_write_tensors(
    path: Path | str, tensors: "Mapping[str, Tensor]", metadata: dict[str, str] | None = None
) -> None:
    """Write ``tensors`` as safetensors, see `atomic_write_bytes`."""
    from safetensors.torch import save

    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    atomic_write_bytes(path, save(contiguous, metadata=metadata))


def atomic_write_table(path: Path | str, table: "pd.DataFrame") -> None:
    """Write ``table`` as parquet without its index, see `atomic_write_bytes`."""
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    atomic_write_bytes(path, buffer.getvalue())


def atomic_write_csv(path: Path | str, table: "pd.DataFrame") -> None:
    """Write ``table`` as CSV without its index, see `atomic_write_bytes`; no text in it is a formula.

    A spreadsheet would compute a cell that begins like one: an apostrophe in front makes it text.
    """
    plain = table.apply(lambda column: column.map(_no_formula) if column.dtype.kind == "O" else column)
    atomic_write_text(path, plain.to_csv(index=False))


def read_json(path: Path | str, worded: Callable[[object], str] | None = None) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Raises
    ------
    UserError
        It cannot be read, is not JSON, or holds no object; ``worded`` makes the message from what is wrong.
    """
    from fairbench.parsing import parse_json

    try:
        content = parse_json(read_text(path, LARGEST_JSON))
        if not isinstance(content, dict):
            raise ValueError("it is not a JSON object")
    except (OSError, ValueError) as error:
        raise UserError(worded(error) if worded else f"{path}: cannot be read: {error}") from None
    return content


def read_yaml(path: Path | str) -> dict[str, Any]:
    """Read a YAML file that holds a mapping.

    Raises
    ------
    UserError
        The file is missing, may not be read, is no regular file or too large, is not YAML, repeats a key, or
        holds no mapping.
    """
    try:
        text = read_text(path, LARGEST_YAML)
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: is not UTF-8 text") from None
    except ValueError as error:  # a zero byte in the path
        raise UserError(f"{path}: cannot be read: {error}") from None
    return parse_yaml(text, str(path))


def parse_yaml(text: str, where: str) -> dict[str, Any]:
    """Read YAML text that holds a mapping; ``where`` names it in a ``UserError``."""
    from fairbench import parsing

    try:
        content = parsing.parse_yaml(text)
    except ValueError as error:
        raise UserError(f"{where}: is not YAML: {error}") from None
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise UserError(f"{where}: must hold keys with values, like 'name: value'")
    return content


def read_text(path: Path | str, largest: int) -> str:
    """Read a regular file of at most ``largest`` bytes as UTF-8.

    Raises
    ------
    OSError
        It cannot be read, is larger, or is something else, such as a named pipe, which may never end.
    """
    about = Path(path).stat()
    if not stat.S_ISREG(about.st_mode):
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    if about.st_size > largest:
        raise OSError(errno.EFBIG, f"it has more than {largest:,} bytes", str(path))
    return Path(path).read_text(encoding="utf-8")


def sha256_of(source: Path | str | bytes) -> str:
    """Hexadecimal sha256 of bytes or of a file's content."""
    if isinstance(source, bytes):
        return hashlib.sha256(source).hexdigest()
    with Path(source).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def lock(directory: Path | str) -> Iterator[None]:
    """Hold ``directory`` (made when missing) for this process alone; the system frees it when it dies.

    Raises
    ------
    UserError
        Another process holds it.
    """
    directory = Path(directory)
    with explained(directory):
        directory.mkdir(parents=True, exist_ok=True)
        file = (directory / ".lock").open("ab")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{directory}: another run is writing here; wait for it or use another") from None
        yield


def _no_formula(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


@contextmanager
def explained(path: Path | str) -> Iterator[None]:
    """Turn the errors of a disk that a user can do something about into a ``UserError`` about ``path``."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise UserError(
                f"{path}: the disk is full; make space, then issue the same command again to go on"
            ) from error
        if error.errno in _REFUSED:
            raise UserError(f"{path}: no permission to write; change it or use another directory") from error
        if error.errno in _OCCUPIED:
            raise UserError(
                f"{path}: something stands in its place; remove it or use another path"
            ) from error
        if error.errno in _UNUSABLE:
            raise UserError(f"{path}: {error.strerror}; use another path") from error
        raise


def is_full_disk(error: BaseException | None) -> bool:
    """Whether ``error``, or what led to it, is a full disk."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FULL:
            return True
        error = error.__cause__ or error.__context__
    return False


def _fsync_directory(directory: Path) -> None:
    """Make the rename itself survive a power cut."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
