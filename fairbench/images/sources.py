"""Images that are there already, from any generator: a folder or a table, as planned rows.

In a folder, every subfolder is a prompt (``prompt_*/img_*``, or a suite's prompt ids), with its text in
``prompt.txt`` or in the suite that is named. A table: columns path and prompt, perhaps original and labels.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fairbench.errors import UserError, unknown
from fairbench.images.folders import folders_in, images_below, images_in
from fairbench.images.rows import ImageSet, as_planned, of_suite
from fairbench.records import ORIGINAL
from fairbench.suites import Prompt, PromptSuite

LARGEST = 2**63 - 1
"""Number of an image that a column can hold; time stamps may be larger."""


def find_images(source: Path, suite: PromptSuite | None, seed: int) -> ImageSet:
    """Look through a folder or a table.

    Parameters
    ----------
    source
        The folder or the table.
    suite
        Whose test prompts they are; None where the prompts come with the images.
    seed
        The base seed that the suite's images have.

    Raises
    ------
    UserError
        There is nothing of that name, no image in it, a prompt or a label that is unknown, a column is
        missing, or a path leads out of the table's folder.
    """
    import pandas as pd

    from fairbench.images.table import TABLES, in_table

    if source.is_dir():
        rows = pd.DataFrame(list(_in_folder(source, suite)))
        if suite is not None:
            order = {prompt.id: k for k, prompt in enumerate(suite.prompts("test"))}
            rows = rows.sort_values("prompt_id", key=lambda names: names.map(order), kind="stable")
        return ImageSet((as_planned(rows.reset_index(drop=True), ORIGINAL, suite, seed),))
    if source.suffix.lower() in TABLES and source.is_file():
        return in_table(source, suite, seed)
    raise UserError(f"{source}: is neither a folder nor a table ({' or '.join(sorted(TABLES))})")


def _in_folder(folder: Path, suite: PromptSuite | None) -> Iterator[dict[str, Any]]:
    """List every image of every prompt; images that lie loose in the folder are of one prompt."""
    folders, loose = folders_in(folder), images_in(folder)
    if loose and folders:
        raise UserError(f"{folder}: holds both images and folders: put the images of each prompt in a folder")
    if not loose and not folders:
        raise UserError(f"{folder}: holds no images: name a folder that has one folder of images per prompt")
    for place in folders or [folder]:
        prompt = _prompt_of(place, suite)
        paths = loose or images_in(place)
        if not paths:
            raise UserError(f"{place}: holds no images: take it out, or name a folder of such folders")
        for inner in folders_in(place):
            if any(images_below(inner)):
                raise UserError(f"{inner}: holds images too: put all images of a prompt in its own folder")
        for index, path in zip(_indices(paths), paths, strict=True):
            yield prompt | {"image_index": index, "image": str(path.absolute())}


def _prompt_of(place: Path, suite: PromptSuite | None) -> dict[str, Any]:
    text = place / "prompt.txt"
    if suite is not None:
        return of_suite(_named(place.name, suite), suite)
    try:
        prompt = text.read_text(encoding="utf-8-sig").strip() if text.is_file() else ""
    except (OSError, UnicodeDecodeError):
        raise UserError(f"{text}: is not UTF-8 text") from None
    return {"prompt_id": place.name, "prompt": prompt, "concept": place.name}


def _named(name: str, suite: PromptSuite) -> Prompt:
    """Find the test prompt that a folder is called after: by its id, or ``prompt_7`` by its number from 0."""
    prompts = suite.prompts("test")
    by_id = {prompt.id: prompt for prompt in prompts}
    number = re.fullmatch(r"prompt_(\d+)", name)
    if number and int(number[1]) < len(prompts):
        return prompts[int(number[1])]
    if name not in by_id:
        raise unknown(f"test prompt of {suite.name}", name, by_id)
    return by_id[name]


def _indices(paths: Sequence[Path]) -> list[int]:
    """Return the numbers that the files end with, or their places where these cannot tell them apart."""
    numbers = [re.search(r"(\d+)$", path.stem) for path in paths]
    found = [int(number[1]) for number in numbers if number]
    usable = len(set(found)) == len(paths) and max(found) <= LARGEST
    return found if usable else list(range(len(paths)))


def real_faces(folder: str | None) -> ImageSet | None:
    """Find the pictures of real faces in a folder, as they are there; None where none is named."""
    return find_images(Path(folder), None, 0) if folder else None


def referred_images(folder: str | None) -> ImageSet | None:
    """Find the images that FID and KID compare with in a folder; None where none is named."""
    return ImageSet(find_images(Path(folder), None, 0).variants[-1:]) if folder else None
