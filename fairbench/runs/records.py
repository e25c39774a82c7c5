"""The records of a run: one row per image, from the plan of what to draw to what every judge and feature network says of it."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fairbench.runs.images import batches
from fairbench.seeding import image_seed
from fairbench.suites import Prompt, PromptSuite

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from fairbench.features import ImageFeatures
    from fairbench.judges import Judge


def planned(
    variant: str, folder: str, suite: PromptSuite, prompts: Sequence[Prompt], count: int, seed: int
) -> "pd.DataFrame":
    """List the images of one variant: ``count`` per prompt, each with its own seed and its path below the run directory.

    The seed depends on suite, prompt, index and base seed alone, so that every variant starts from the same noise.
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


def judged(rows: "pd.DataFrame", directory: Path, judge: "Judge", batch_size: int = 64) -> "pd.DataFrame":
    """Return the columns of one judge: face, every class of every attribute, and whether it recognises the concept."""
    import numpy as np
    import pandas as pd

    judgements = [judge.judge(images) for _, images in batches(rows, directory, batch_size)]
    columns: dict[str, np.ndarray] = {
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
    """Compare the likeliest concept with the prompt's; no value where the judge does not know the prompt's word."""
    import pandas as pd

    best = pd.Series([words[k] for k in probabilities.argmax(axis=1)], index=rows.index)
    return (best == rows["concept"]).astype("boolean").mask(~rows["concept"].isin(words))


def features_of(
    rows: "pd.DataFrame", directory: Path, features: "ImageFeatures", batch_size: int = 64
) -> "np.ndarray":
    """Return the N x D features of the images of ``rows``."""
    import numpy as np

    return np.concatenate(
        [
            features.batched(images, batch_size).cpu().numpy()
            for _, images in batches(rows, directory, batch_size)
        ]
    )


def cosine_rows(a: "np.ndarray", b: "np.ndarray") -> "np.ndarray":
    """Return cos(a_n, b_n) for every row n of two N x D arrays."""
    import numpy as np

    return np.einsum("nd,nd->n", a, b) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
