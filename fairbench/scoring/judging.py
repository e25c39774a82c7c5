"""The records of a run: one row per image, from what to draw to what judges and features say of it."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairbench.features import ImageFeatures, cosine, seen_by
from fairbench.images.files import read_image
from fairbench.images.rows import read_back
from fairbench.judges import Judge, Judgement, judge_all
from fairbench.precision import exact
from fairbench.records import ORIGINAL, SIMILARITIES, face, probability, recognised

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from torch import Tensor

    from fairbench.progress import Progress


AT_ONCE = 256
"""Images that judges and feature networks see at once; what they say is rounded alike for the same number."""


@dataclass(frozen=True)
class Instruments:
    """Everything loaded, and found to fit the plan."""

    model: Any
    """``None`` where images are given."""
    judges: tuple[Judge, ...]
    """For evaluation, the primary one first; the one used in training is never among them."""
    training_judge: Judge | None
    features: tuple[ImageFeatures, ...]
    training_features: tuple[ImageFeatures, ...]
    reference: Any | None
    """Renders what FID and KID compare with; None outside the embedded world, or where a folder is named."""

    @property
    def all_judges(self) -> tuple[Judge, ...]:
        """The judges for evaluation, then the one used in training."""
        return (*self.judges, *((self.training_judge,) if self.training_judge else ()))

    @property
    def network(self) -> str | None:
        """The feature network of distances and diversity: the first that sees only; CLIP looks for words."""
        return next((network.name for network in self.features if network.tokenizer is None), None)


def record(
    variants: "Sequence[pd.DataFrame]",
    directory: Path,
    instruments: Instruments,
    progress: "Progress",
    read: "Callable[[Path], np.ndarray]" = read_image,
) -> "tuple[pd.DataFrame, dict[str, Tensor]]":
    """Let every judge and every feature network look at every image.

    Parameters
    ----------
    variants
        The planned images of every variant in the same order, the original model's first.
    directory
        Of the run.
    instruments
        What to look with. The training judge looks too, so that its view can be set against the others'.
    progress
        Told ``(stage, done, total)``.
    read
        Returns the image at a path.

    Returns
    -------
    records
        One row per variant and image: what was planned, face, classes and recognition per judge,
        then clip_t (image and prompt), clip_i and dino (image and the original image of the same noise).
    features
        ``{network}/{variant}`` -> N x D.
    """
    import pandas as pd

    done, total = 0, sum(map(len, variants))

    def told(rows: "pd.DataFrame") -> "Iterator[tuple[pd.DataFrame, Tensor]]":
        nonlocal done
        for batch, images in read_back(rows, directory, read):
            yield batch, images
            done += len(batch)
            progress("judging", done, total)

    progress("judging", 0, total)
    tables, features = [], dict[str, "Tensor"]()
    for rows in variants:
        variant = str(rows["variant"].iloc[0])
        columns, seen = look(told(rows), instruments.all_judges, instruments.features)
        features |= {f"{name}/{variant}": values for name, values in seen.items()}
        closeness = similarities(rows, variant, features, instruments.features)
        tables.append(pd.concat([rows, columns, closeness], axis=1))
    return pd.concat(tables, ignore_index=True), features


def look(
    seen: "Iterable[tuple[pd.DataFrame, Tensor]]",
    judges: Sequence[Judge],
    networks: Sequence[ImageFeatures],
) -> "tuple[pd.DataFrame, dict[str, Tensor]]":
    """Judge some rows and their images at a time; return the columns of all judges, and N x D features."""
    import pandas as pd
    import torch

    from fairbench.models.capacity import AtOnce

    looking: list[Any] = [*judges, *networks]
    device = next((network.device for network in looking), torch.device("cpu"))
    at_once, columns, features = AtOnce(AT_ONCE, "judged"), [], []

    def judge_part(
        rows: "pd.DataFrame", images: "Tensor", part: slice
    ) -> "tuple[pd.DataFrame, list[Tensor]]":
        rows, images = rows[part], images[part].to(device)
        views = [judged(rows, *each) for each in judge_all(judges, images)]
        found = [values.cpu() for _, values in seen_by(networks, images)]
        return pd.concat([pd.DataFrame(index=rows.index), *views], axis=1), found

    with torch.inference_mode(), exact():
        for rows, images in seen:
            some = partial(judge_part, rows, images)
            for _, (table, found) in at_once.portions(some, len(images), device):
                columns.append(table)
                features.append(found)
    joined = [torch.cat(parts) for parts in zip(*features, strict=True)]
    return pd.concat(columns), dict(zip([network.name for network in networks], joined, strict=True))


def judged(rows: "pd.DataFrame", judge: Judge, judgement: Judgement) -> "pd.DataFrame":
    """Return the columns of one judge: face, every class, and whether it recognises the concept."""
    import pandas as pd

    columns: dict[str, Any] = {face(judge.name): judgement.face.cpu().numpy()}
    for attribute, classes in judge.attributes.items():
        probabilities = judgement.probabilities[attribute].cpu().numpy()
        if attribute == "concept":
            columns[recognised(judge.name)] = _recognised(rows, probabilities, classes)
        else:
            columns |= {
                probability(judge.name, attribute, name): probabilities[:, k]
                for k, name in enumerate(classes)
            }
    return pd.DataFrame(columns, index=rows.index)


def _recognised(rows: "pd.DataFrame", probabilities: "np.ndarray", words: Sequence[str]) -> "pd.Series":
    """Compare the likeliest concept with the prompt's; no value where the judge does not know the word."""
    import pandas as pd

    best = pd.Series([words[k] for k in probabilities.argmax(axis=1)], index=rows.index)
    return (best == rows["concept"]).astype("boolean").mask(~rows["concept"].isin(words))


def similarities(
    rows: "pd.DataFrame", variant: str, features: "dict[str, Tensor]", networks: Sequence[ImageFeatures]
) -> "pd.DataFrame":
    """Return clip_t, clip_i and dino; the original has nothing to be compared with, which is no value."""
    import pandas as pd
    import torch

    columns = pd.DataFrame(index=rows.index, columns=[*SIMILARITIES], dtype=float)
    for network in networks:
        mine, reads_text = features[f"{network.name}/{variant}"], network.tokenizer is not None
        if reads_text and rows["prompt"].ne("").all():
            prompts = list(dict.fromkeys(rows["prompt"]))
            texts = dict(zip(prompts, network.text(prompts, truncate=True).cpu(), strict=True))
            columns["clip_t"] = cosine(
                mine, torch.stack([texts[prompt] for prompt in rows["prompt"]])
            ).numpy()
        if variant != ORIGINAL:
            columns["clip_i" if reads_text else "dino"] = cosine(
                mine, features[f"{network.name}/{ORIGINAL}"]
            ).numpy()
    return columns
