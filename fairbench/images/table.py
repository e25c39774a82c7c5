"""A table of images, CSV or parquet: path, prompt, perhaps the original image and what is known of it."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairbench.attributes import ATTRIBUTES
from fairbench.errors import UserError, unknown
from fairbench.images.rows import KNOWN, ImageSet, as_planned, of_suite
from fairbench.images.table_file import TableFile, read_table
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
    table = _read(source)
    prompts = _prompts(table.rows["prompt"], suite)
    images = prompts.assign(
        image_index=prompts.groupby("prompt_id").cumcount(), image=_names(table.paths("path"))
    )
    known = {name: labels for name, labels in ATTRIBUTES.items() if name in table.rows}
    judged = _known(table, known)
    if "original" not in table.rows:
        return ImageSet((as_planned(images.join(judged), ORIGINAL, suite, seed),), known=known)
    originals = images.assign(image=_names(table.paths("original", once=False)))
    variants = originals.join(judged.mask(judged.notna())), images.join(judged)
    names = ORIGINAL, GENERATED
    planned = (as_planned(v, name, suite, seed) for v, name in zip(variants, names, strict=True))
    return ImageSet(tuple(planned), method=GENERATED, known=known)


def _names(paths: list[Path]) -> list[str]:
    return [str(path) for path in paths]


def _read(source: Path) -> TableFile:
    table = read_table(source)
    if missing := [name for name in NEEDED if name not in table.rows]:
        raise UserError(
            f"{source}: has no column {', '.join(missing)}: give the path and the prompt of every image"
        )
    if table.rows.empty:
        raise UserError(f"{source}: holds no images: give one row for each")
    if (empty := table.rows["prompt"] == "").any():
        raise UserError(f"{table.where(_first(empty))}: has no prompt")
    return table


def _prompts(texts: "pd.Series", suite: PromptSuite | None) -> "pd.DataFrame":
    """Return the columns of every row's prompt; without a suite the prompts are numbered."""
    import pandas as pd

    if suite is None:
        numbers = [f"prompt_{number}" for number in pd.factorize(texts)[0]]
        return pd.DataFrame({"prompt_id": numbers, "prompt": texts, "concept": texts})
    by_text = {prompt.text: prompt for prompt in suite.prompts("test")}
    for text in texts:
        if text not in by_text:
            raise unknown(f"test prompt of {suite.name}", text, by_text)
    return pd.DataFrame([of_suite(by_text[text], suite) for text in texts])


def _known(table: TableFile, known: dict[str, tuple[str, ...]]) -> "pd.DataFrame":
    """Return the columns of the judge ``known``: certain of every label, nan where there is none."""
    import pandas as pd

    columns: dict[str, Any] = {face(KNOWN): 1.0} if known else {}
    for name, labels in known.items():
        given = table.rows[name]
        strange = ~given.isin([*labels, ""])
        if strange.any():
            row = _first(strange)
            raise unknown(f"class of {name} in {table.lines[row]} of {table.source}", given[row], labels)
        stated = (given != "").to_numpy()
        for label in labels:
            columns[f"{KNOWN}/{name}/{label}"] = (given == label).astype(float).where(stated)
    return pd.DataFrame(columns, index=table.rows.index)


def _first(rows: "pd.Series") -> int:
    return int(rows.to_numpy().argmax())
