"""The records of a run: one row per image, from what to draw to what judges and features say of it."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairbench.features import cosine
from fairbench.runs.images import batches
from fairbench.runs.registry import ORIGINAL
from fairbench.seeding import image_seed
from fairbench.suites import Prompt, PromptSuite

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from torch import Tensor

    from fairbench.features import ImageFeatures
    from fairbench.judges import Judge
    from fairbench.runs.instruments import Instruments
    from fairbench.runs.runner import Progress


def planned(
    variant: str, folder: str, suite: PromptSuite, prompts: Sequence[Prompt], count: int, seed: int
) -> "pd.DataFrame":
    """List the images of one variant: ``count`` per prompt, each with its seed and its path in the run.

    The seed depends on suite, prompt, index and base seed alone: every variant starts from the same noise.
    """
    import pandas as pd

    return pd.DataFrame(
        {
            "variant": variant,
            "prompt_id": prompt.id,
            "prompt": prompt.text,
            "concept": prompt.concept,
            "image_index": index,
            "seed": image_seed(suite.name, suite.version, prompt.id, index, seed),
            "image": f"images/{folder}/{prompt.id}/{index}.png",
        }
        for prompt in prompts
        for index in range(count)
    )


def judged(rows: "pd.DataFrame", directory: Path, judge: "Judge") -> "pd.DataFrame":
    """Return the columns of one judge: face, every class, and whether it recognises the concept."""
    import numpy as np
    import pandas as pd

    judgements = [judge.judge(images) for _, images in batches(rows, directory)]
    columns: dict[str, Any] = {
        f"{judge.name}/face": np.concatenate([judgement.face.cpu().numpy() for judgement in judgements])
    }
    for attribute, classes in judge.attributes.items():
        probabilities = np.concatenate(
            [judgement.probabilities[attribute].cpu().numpy() for judgement in judgements]
        )
        if attribute == "concept":
            columns[f"{judge.name}/recognised"] = _recognised(rows, probabilities, classes)
        else:
            columns |= {
                f"{judge.name}/{attribute}/{name}": probabilities[:, k] for k, name in enumerate(classes)
            }
    return pd.DataFrame(columns, index=rows.index)


def _recognised(rows: "pd.DataFrame", probabilities: "np.ndarray", words: Sequence[str]) -> "pd.Series":
    """Compare the likeliest concept with the prompt's; no value where the judge does not know the word."""
    import pandas as pd

    best = pd.Series([words[k] for k in probabilities.argmax(axis=1)], index=rows.index)
    return (best == rows["concept"]).astype("boolean").mask(~rows["concept"].isin(words))


def record(
    variants: "Sequence[pd.DataFrame]", directory: Path, instruments: "Instruments", progress: "Progress"
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

    Returns
    -------
    records
        One row per variant and image: what was planned, face, classes and recognition per judge,
        then clip_t (image and prompt), clip_i and dino (image and the original image of the same noise).
    features
        ``{network}/{variant}`` -> N x D.
    """
    import pandas as pd

    judges = [*instruments.judges, *filter(None, [instruments.training_judge])]
    passes, done = len(variants) * (len(judges) + len(instruments.features)), 0

    def tell() -> None:
        nonlocal done
        done += 1
        progress("judging", done, passes)

    progress("judging", 0, passes)
    tables, features = [], {}
    for rows in variants:
        variant = str(rows["variant"].iloc[0])
        columns = [rows]
        for judge in judges:
            columns.append(judged(rows, directory, judge))
            tell()
        for network in instruments.features:
            features[f"{network.name}/{variant}"] = features_of(rows, directory, network)
            tell()
        columns.append(similarities(rows, variant, features, instruments.features))
        tables.append(pd.concat(columns, axis=1))
    return pd.concat(tables, ignore_index=True), features


def features_of(rows: "pd.DataFrame", directory: Path, network: "ImageFeatures") -> "Tensor":
    """Return the N x D features of the images of ``rows``."""
    import torch

    return torch.cat([network.batched(images).cpu() for _, images in batches(rows, directory)])


def similarities(
    rows: "pd.DataFrame", variant: str, features: "dict[str, Tensor]", networks: "Sequence[ImageFeatures]"
) -> "pd.DataFrame":
    """Return clip_t, clip_i and dino; the original has nothing to be compared with, which is no value."""
    import pandas as pd
    import torch

    columns = pd.DataFrame(index=rows.index, columns=["clip_t", "clip_i", "dino"], dtype=float)
    for network in networks:
        mine, original = (features[f"{network.name}/{name}"] for name in (variant, ORIGINAL))
        reads_text = network.tokenizer is not None
        if reads_text:
            prompts = list(dict.fromkeys(rows["prompt"]))
            texts = dict(zip(prompts, network.text(prompts).cpu(), strict=True))
            columns["clip_t"] = cosine(
                mine, torch.stack([texts[prompt] for prompt in rows["prompt"]])
            ).numpy()
        if variant != ORIGINAL:
            columns["clip_i" if reads_text else "dino"] = cosine(mine, original).numpy()
    return columns
