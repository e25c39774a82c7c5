"""The images that FID and KID compare with: of a folder that the user names, or rendered."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fairbench.errors import UserError
from fairbench.images.files import check_images
from fairbench.images.rows import ImageSet, planned, read_back
from fairbench.scoring.judging import look
from fairbench.suites import Prompt, PromptSuite

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

    from fairbench.scoring.judging import Instruments

REFERENCE = "reference"
AT_ONCE = 256


def check_reference(
    given: ImageSet | None, suite: PromptSuite | None, instruments: "Instruments"
) -> ImageSet | None:
    """Read each image once, and call its prompt as the suite does; None where there are none.

    Raises
    ------
    UserError
        One of them cannot be read, or there is no network to see them with.
    """
    if given is None:
        return None
    if instruments.network is None:
        raise UserError("--reference needs a feature network that sees only: name one with --features")
    rows = given.variants[0].assign(variant=REFERENCE)
    if suite is not None:
        ids = {f"prompt_{number}": prompt.id for number, prompt in enumerate(suite.prompts("test"))}
        rows["prompt_id"] = rows["prompt_id"].replace(ids)
    check_images([Path(path) for path in rows["image"]])
    return ImageSet((rows,))


def record_reference(
    given: ImageSet | None,
    suite: PromptSuite | None,
    prompts: Sequence[Prompt],
    count: int,
    seed: int,
    instruments: "Instruments",
) -> "tuple[pd.DataFrame, dict[str, Tensor]] | None":
    """Look at the images that are given, else at ``count`` rendered ones per prompt, of noise of their own.

    Returns
    -------
    Their rows with the view of the primary judge, and ``{network}/reference`` -> N x D; None where there is
    nothing to refer to, or no network to see it with.
    """
    import pandas as pd

    network = next((n for n in instruments.features if n.name == instruments.network), None)
    if network is None:
        return None
    if given is not None:
        rows = given.variants[0]
        seen = read_back(rows, Path())
    elif suite is not None and instruments.reference is not None:
        apart = suite.model_copy(update={"name": f"{suite.name}/{REFERENCE}"})
        rows = planned(REFERENCE, REFERENCE, apart, prompts, count, seed).drop(columns="image")
        seen = _rendered(rows, instruments)
    else:
        return None
    columns, features = look(seen, instruments.judges[:1], [network])
    return pd.concat([rows, columns], axis=1), {f"{network.name}/{REFERENCE}": features[network.name]}


def _rendered(rows: "pd.DataFrame", instruments: "Instruments") -> "Iterator[tuple[pd.DataFrame, Tensor]]":
    renderer = instruments.reference
    assert renderer is not None  # noqa: S101
    for start in range(0, len(rows), AT_ONCE):
        batch = rows.iloc[start : start + AT_ONCE]
        yield batch, renderer.generate(list(batch["prompt"]), list(batch["seed"]))
