"""Which image is which: one row per image, with its prompt, its seed and its file, planned or found."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairbench.images.files import batches, check_is_file, read_image
from fairbench.records import ORIGINAL, named
from fairbench.seeding import image_seed
from fairbench.storage import sha256_of
from fairbench.suites import Prompt, PromptSuite

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from torch import Tensor


def planned(
    variant: str, folder: str, suite: PromptSuite, prompts: Sequence[Prompt], count: int, seed: int
) -> "pd.DataFrame":
    """List the images of one variant: ``count`` per prompt, each with its seed and its path in the run.

    The seed depends on suite, prompt, index and base seed alone: every variant starts from the same noise.
    """
    import pandas as pd

    indices = [(prompt, index) for prompt in prompts for index in range(count)]
    return pd.DataFrame([planned_image(variant, folder, suite, *where, seed) for where in indices])


def planned_image(
    variant: str, folder: str, suite: PromptSuite, prompt: Prompt, index: int, seed: int
) -> dict[str, Any]:
    """Return one row of `planned`; ``named/...`` holds the classes that the prompt itself asks for."""
    return {
        "variant": variant,
        "prompt_id": prompt.id,
        "prompt": prompt.text,
        "concept": prompt.concept,
        "image_index": index,
        "seed": image_seed(suite.name, suite.version, prompt.id, index, seed),
        "image": f"images/{folder}/{prompt.id}/{index}.png",
    } | {named(attribute): prompt.named.get(attribute) for attribute in suite.words}


KNOWN = "known"
"""What a table says of its images counts like a judge of this name."""


@dataclass(frozen=True)
class ImageSet:
    """Images that are there already, and what is known of them."""

    variants: "tuple[pd.DataFrame, ...]"
    """The originals first, where there are any; images as absolute paths."""
    method: str = ORIGINAL
    draw_class: str = "unknown"
    """Who chose the attributes; nobody can tell from the images."""
    known: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Attribute -> labels that come with the images, in columns like those of a judge called `KNOWN`."""

    @cached_property
    def sha256(self) -> str:
        """Of the content of all images, in their order."""
        paths = [Path(path) for rows in self.variants for path in rows["image"]]
        for path in paths:
            check_is_file(path)
        return sha256_of("".join(map(sha256_of, paths)).encode())

    @cached_property
    def prompts_sha256(self) -> str:
        """Of the prompts, in their order."""
        rows = self.variants[0].drop_duplicates("prompt_id")
        lines = [f"{name}\t{text}" for name, text in zip(rows["prompt_id"], rows["prompt"], strict=True)]
        return sha256_of("\n".join(lines).encode())


def as_planned(images: "pd.DataFrame", variant: str, suite: PromptSuite | None, seed: int) -> "pd.DataFrame":
    """Return planned rows of what was found; only images of a suite have a seed."""
    import pandas as pd

    rows = images.assign(variant=variant, seed=pd.array([None] * len(images), dtype="Int64"))
    if suite is not None:
        which = zip(rows["prompt_id"], rows["image_index"], strict=True)
        seeds = [image_seed(suite.name, suite.version, prompt, index, seed) for prompt, index in which]
        rows["seed"] = pd.array(seeds, dtype="Int64")
    first = ["variant", "prompt_id", "prompt", "concept", "image_index", "seed", "image"]
    return rows[[*first, *(name for name in rows if name not in first)]]


def of_suite(prompt: Prompt, suite: PromptSuite) -> dict[str, Any]:
    """Return the columns of a prompt of a suite."""
    columns = {"prompt_id": prompt.id, "prompt": prompt.text, "concept": prompt.concept}
    return columns | {named(attribute): prompt.named.get(attribute) for attribute in suite.words}


def read_back(
    rows: "pd.DataFrame", directory: Path, read: "Callable[[Path], np.ndarray]" = read_image
) -> "Iterator[tuple[pd.DataFrame, Tensor]]":
    """Walk through ``rows`` with their images; these lie in ``directory``, or where an absolute path says."""
    for which, images in batches([directory / image for image in rows["image"]], read):
        yield rows.iloc[which], images
