"""A table of images, CSV or parquet: path, prompt, perhaps the original image and what is known of it."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairbench.attributes import ATTRIBUTES
from fairbench.errors import UserError, unknown
from fairbench.images.files import path_inside
from fairbench.images.rows import KNOWN, ImageSet, as_planned, of_suite
from fairbench.records import ORIGINAL, face
from fairbench.suites import PromptSuite

if TYPE_CHECKING:
    import pandas as pd

TABLES = {".csv", ".parquet"}
NEEDED = ("path", "prompt")
GENERATED = "generated"
"""The variant of images that come with their originals."""


def in_table(source: Path, suite: PromptSuite | None, seed: int) -> ImageSet:
    """List the images of a table.

    Columns ``path`` (inside the table's folder) and ``prompt``; ``original``, the path of the image that it
    is compared with; ``gender``, ``race``, ``age``: the class that is known, or nothing.
    """
    rows = _read(source)
    prompts = _prompts(source, rows, suite)
    images = prompts.assign(
        image_index=prompts.groupby("prompt_id").cumcount(),
        image=[_inside(source, path) for path in rows["path"]],
    )
    known = {name: labels for name, labels in ATTRIBUTES.items() if name in rows}
    judged = _known(source, rows, known)
    if "original" not in rows:
        return ImageSet((as_planned(images.join(judged), ORIGINAL, suite, seed),), known=known)
    originals = images.assign(image=[_inside(source, path) for path in rows["original"]])
    variants = originals.join(judged.mask(judged.notna())), images.join(judged)
    names = ORIGINAL, GENERATED
    planned = (as_planned(v, name, suite, seed) for v, name in zip(variants, names, strict=True))
    return ImageSet(tuple(planned), method=GENERATED, known=known)


def _read(source: Path) -> "pd.DataFrame":
    import pandas as pd

    try:
        if source.suffix.lower() == ".csv":
            rows = pd.read_csv(source, dtype=str, keep_default_na=False)
        else:
            rows = pd.read_parquet(source).astype("string").fillna("").astype(object)
    except (OSError, ValueError) as error:  # what pandas and pyarrow raise descends from these
        raise UserError(f"{source}: is no table that can be read: {' '.join(str(error).split())}") from None
    if missing := [name for name in NEEDED if name not in rows]:
        raise UserError(
            f"{source}: has no column {', '.join(missing)}: give the path and the prompt of every image"
        )
    if rows.empty:
        raise UserError(f"{source}: holds no images: give one row for each")
    for name in NEEDED:
        if (rows[name] == "").any():
            raise UserError(f"{source}: row {_first(rows[name] == '')} has no {name}")
    if twice := rows["path"][rows["path"].duplicated()].tolist():
        raise UserError(f"{source}: names {twice[0]} twice: an image counts once")
    return rows


def _prompts(source: Path, rows: "pd.DataFrame", suite: PromptSuite | None) -> "pd.DataFrame":
    """Return the columns of every row's prompt; without a suite the prompts are numbered."""
    import pandas as pd

    if suite is None:
        numbers = [f"prompt_{number}" for number in pd.factorize(rows["prompt"])[0]]
        return pd.DataFrame({"prompt_id": numbers, "prompt": rows["prompt"], "concept": rows["prompt"]})
    by_text = {prompt.text: prompt for prompt in suite.prompts("test")}
    for text in rows["prompt"]:
        if text not in by_text:
            raise unknown(f"test prompt of {suite.name}", text, by_text)
    return pd.DataFrame([of_suite(by_text[text], suite) for text in rows["prompt"]])


def _known(source: Path, rows: "pd.DataFrame", known: dict[str, tuple[str, ...]]) -> "pd.DataFrame":
    """Return the columns of the judge ``known``: certain of every label, nan where there is none."""
    import pandas as pd

    columns: dict[str, Any] = {face(KNOWN): 1.0} if known else {}
    for name, labels in known.items():
        strange = ~rows[name].isin([*labels, ""])
        if strange.any():
            where = f"class of {name} in row {_first(strange)} of {source}"
            raise unknown(where, rows[name][strange].iloc[0], labels)
        stated = (rows[name] != "").to_numpy()
        for label in labels:
            columns[f"{KNOWN}/{name}/{label}"] = (rows[name] == label).astype(float).where(stated)
    return pd.DataFrame(columns, index=rows.index)


def _inside(source: Path, path: str) -> str:
    """Return the absolute path of a file in the table's folder; a table must not reach for other files."""
    found = path_inside(source.parent, path)
    if found is None:
        raise UserError(f"{source}: the path {path!r} is not inside the folder of the table: move it there")
    return str(found)


def _first(rows: "pd.Series") -> int:
    return int(rows.to_numpy().argmax()) + 1
