"""A table of images as people save it, CSV or parquet, and the files that it names.

Any separator, capitals and spaces are understood; rows that do not fit the header are refused, with the line.
"""

import csv
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fairbench.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

SEPARATORS = ",;\t|"


@dataclass(frozen=True)
class TableFile:
    """What a table says."""

    source: Path
    rows: "pd.DataFrame"
    """Numbered from 0; columns in lower case, stripped text in every cell, "" where there is none."""
    lines: Sequence[str]
    """What each row is called, such as "line 3"."""

    def where(self, row: int) -> str:
        """Name a row in a message."""
        return f"{self.source} {self.lines[row]}"

    def paths(self, column: str, *, once: bool = True) -> list[Path]:
        """Return the files that a column names, seen from the folder of the table.

        Raises
        ------
        UserError
            A row names none, or one outside the folder, or, if each may be named only ``once``, the same as
            another.
        """
        found: dict[Path, int] = {}
        paths = []
        for row, text in enumerate(self.rows[column]):
            if not text:
                hint = "" if once else ", or leave the column out"
                raise UserError(f"{self.where(row)}: has no {column}: name a file{hint}")
            if (path := path_inside(self.source.parent, text)) is None:
                raise UserError(
                    f"{self.where(row)}: the path {text!r} is not inside the folder of the table: "
                    "move the file there"
                )
            if once and (first := found.setdefault(path, row)) != row:
                raise UserError(
                    f"{self.where(row)}: names {text} as {self.lines[first]} does: an image counts once"
                )
            paths.append(path)
        return paths


def read_table(source: Path) -> TableFile:
    """Read a table; what does not end in ``.parquet`` is a CSV.

    Raises
    ------
    UserError
        It cannot be read, a column is there twice, or a row has more or fewer fields than the header.
    """
    rows, lines = _parquet(source) if source.suffix.lower() == ".parquet" else _csv(source)
    rows.columns = [str(name).strip().lower() for name in rows]
    if twice := [name for name in rows.columns[rows.columns.duplicated()] if name]:
        raise UserError(f"{source}: has two columns {twice[0]}: take one out")
    return TableFile(source, rows.apply(lambda column: column.str.strip()), lines)


def path_inside(folder: Path, path: str) -> Path | None:
    r"""Return the file that a table in ``folder`` names, as a\b or as a/b.

    None where it, or what it is a link to, lies outside the folder, or outside the repository of the Hub that
    the folder is a snapshot of: there every file is a link into ``blobs``.
    """
    root = folder.resolve()
    if "\\" in path and not (root / path).exists():
        path = path.replace("\\", "/")
    found = Path(os.path.normpath(root / path))
    return found if Path(os.path.realpath(found)).is_relative_to(_repository(root)) else None


def _repository(folder: Path) -> Path:
    """Return what holds all files of a snapshot in the cache of the Hub; any other folder itself."""
    snapshots = next((place for place in folder.parents if place.name == "snapshots"), None)
    cached = snapshots is not None and (snapshots.parent / "blobs").is_dir()
    return snapshots.parent if snapshots is not None and cached else folder


def _csv(source: Path) -> "tuple[pd.DataFrame, list[str]]":
    import pandas as pd

    try:
        text = source.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"{source}: is no table that can be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{source}: is no table that can be read: it is not a CSV in UTF-8") from None
    separator = max(SEPARATORS, key=text.lstrip().partition("\n")[0].count)
    file = io.StringIO(text, newline="")
    reader = csv.reader(file, delimiter=separator, skipinitialspace=True, strict=True)
    rows, lines, header = [], [], None
    try:
        for fields in reader:
            if not any(fields):
                continue
            if header is None:
                header = fields
            elif len(fields) == len(header):
                rows.append(fields)
                lines.append(f"line {reader.line_num}")
            else:
                raise UserError(
                    f"{source} line {reader.line_num}: has {len(fields)} fields where the header has "
                    f"{len(header)}: put a text that holds {separator!r} into quotes"
                )
    except csv.Error as error:
        raise UserError(f"{source}: is no table that can be read: line {reader.line_num}: {error}") from None
    return pd.DataFrame(rows, columns=header or [], dtype=object), lines


def _parquet(source: Path) -> "tuple[pd.DataFrame, list[str]]":
    import pyarrow as pa
    from pyarrow import parquet

    try:  # an index that pandas has stored, of rows that were shuffled or put together, numbers nothing here
        rows = parquet.ParquetFile(source).read().to_pandas(ignore_metadata=True)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{source}: is no table that can be read: {' '.join(str(error).split())}") from None
    rows = rows.astype("string").fillna("").astype(object)
    return rows, [f"row {number}" for number in range(1, len(rows) + 1)]
