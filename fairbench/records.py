"""The columns of the records, one row per image: what each is called and what it says.

What is planned has bare names (``variant``, ``prompt_id``, ``prompt``, ``concept``, ``image_index``,
``seed``, ``image``); what judges and feature networks add is below.
"""

from typing import TYPE_CHECKING

from fairbench.attributes import ATTRIBUTES, FACE_THRESHOLD
from fairbench.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

PLANNED = ("variant", "prompt_id", "prompt", "image_index")
"""Columns without which records say nothing."""
ORIGINAL = "original"
"""The method that changes nothing, and the name of every run's first variant."""
PRODUCT = " x "
"""Joins the attributes of an intersection: ``"gender x race"``."""
SIMILARITIES = ("clip_t", "clip_i", "dino")
"""To the prompt, and to the original image of the same noise."""


def face(judge: str) -> str:
    """Name the column of the probability that a judge gives to there being a face.

    Examples
    --------
    >>> face("judge")
    'judge/face'
    """
    return f"{judge}/face"


def recognised(judge: str) -> str:
    """Name the column that tells whether a judge recognises the concept; no value for an unknown word.

    Examples
    --------
    >>> recognised("judge")
    'judge/recognised'
    """
    return f"{judge}/recognised"


def probability(judge: str, attribute: str, label: str) -> str:
    """Name the column of the probability that a judge gives to a class.

    Examples
    --------
    >>> probability("judge", "gender", "male")
    'judge/gender/male'
    """
    return f"{judge}/{attribute}/{label}"


def named(attribute: str) -> str:
    """Name the column of the class that the prompt itself asks for.

    Examples
    --------
    >>> named("gender")
    'named/gender'
    """
    return f"named/{attribute}"


def shows_face(records: "pd.DataFrame", judge: str) -> "np.ndarray":
    """Tell of every image whether the judge sees a face.

    Examples
    --------
    >>> import pandas as pd
    >>> shows_face(pd.DataFrame({"judge/face": [0.9, 0.5, 0.1]}), "judge").tolist()
    [True, True, False]
    """
    return (records[face(judge)] >= FACE_THRESHOLD).to_numpy()


def probabilities(records: "pd.DataFrame", judge: str, attribute: str) -> list[str]:
    """Return the columns of all classes of an attribute that a judge reads; none if it does not.

    Examples
    --------
    >>> import pandas as pd
    >>> records = pd.DataFrame(columns=["judge/face", "judge/gender/female", "judge/gender/male"])
    >>> probabilities(records, "judge", "gender")
    ['judge/gender/female', 'judge/gender/male']
    """
    prefix = probability(judge, attribute, "")
    return [str(column) for column in records if str(column).startswith(prefix)]


def reads(records: "pd.DataFrame", judge: str, attribute: str) -> bool:
    """Tell whether the records hold what the judge says of an attribute.

    Examples
    --------
    >>> import pandas as pd
    >>> records = pd.DataFrame(columns=["judge/face", "judge/gender/female", "judge/gender/male"])
    >>> reads(records, "judge", "gender"), reads(records, "judge", "race")
    (True, False)
    """
    return bool(probabilities(records, judge, attribute))


def classes_read(records: "pd.DataFrame", judge: str) -> dict[str, tuple[str, ...]]:
    """Return attribute -> classes, as far as the judge has judged them.

    Examples
    --------
    >>> import pandas as pd
    >>> records = pd.DataFrame(columns=["judge/face", "judge/gender/female", "judge/gender/male"])
    >>> classes_read(records, "judge")
    {'gender': ('female', 'male')}
    """
    found: dict[str, tuple[str, ...]] = {}
    for column in map(str, records):
        if column.startswith(f"{judge}/") and column.count("/") == 2:
            attribute, label = column.removeprefix(f"{judge}/").split("/")
            found[attribute] = (*found.get(attribute, ()), label)
    return found


def measured(records: "pd.DataFrame", judge: str) -> list[str]:
    """Return the attributes that a judge has judged; a ``UserError`` where it is none.

    Examples
    --------
    >>> import pandas as pd
    >>> measured(pd.DataFrame(columns=["judge/age/young", "judge/age/old"]), "judge")
    ['age']
    """
    found = [name for name in ATTRIBUTES if reads(records, judge, name)]
    if not found:
        raise UserError(f"judge {judge!r} measured none of {', '.join(ATTRIBUTES)} in these records")
    return found


def judge_of(records: "pd.DataFrame", primary: str | None = None) -> str:
    """Return the ``primary`` judge, if the records name it, else the first judge that they name.

    Examples
    --------
    >>> import pandas as pd
    >>> records = pd.DataFrame(columns=["first/face", "second/face"])
    >>> judge_of(records), judge_of(records, "second"), judge_of(records, "third")
    ('first', 'second', 'first')
    """
    ending = face("")
    known = [str(column).removesuffix(ending) for column in records if str(column).endswith(ending)]
    if not known:
        raise UserError("these records hold no judge: measure them first (columns '<judge>/face', ...)")
    return primary if primary in known else known[0]


def method_of(records: "pd.DataFrame") -> str | None:
    """Return the variant that is not the original model; None if only the original was run.

    Examples
    --------
    >>> import pandas as pd
    >>> method_of(pd.DataFrame({"variant": ["original", "biased_dft"]}))
    'biased_dft'
    """
    return next((str(variant) for variant in records["variant"].unique() if variant != ORIGINAL), None)


def fault(records: "pd.DataFrame") -> str | None:
    """Say why a table cannot be the records of a run; None where it can.

    Examples
    --------
    >>> import pandas as pd
    >>> fault(pd.DataFrame({"variant": ["original"], "prompt": ["a cook"], "prompt_id": ["cook"]}))
    'has no column image_index'
    """
    from pandas.api.types import is_numeric_dtype

    if missing := [name for name in PLANNED if name not in records]:
        return f"has no column {', '.join(missing)}"
    if records.empty:
        return "has no rows"
    if empty := [name for name in PLANNED if records[name].isna().any()]:
        return f"has no {', '.join(empty)} in some rows"
    numbers = [str(name) for name in records if str(name) in SIMILARITIES or _is_probability(str(name))]
    if wrong := [name for name in numbers if not is_numeric_dtype(records[name])]:
        return f"has other than numbers in the column {', '.join(wrong)}"
    return None


def _is_probability(column: str) -> bool:
    """Tell whether a judge has given the numbers of a column; what a prompt names is words."""
    return column.endswith(face("")) or (column.count("/") == 2 and not column.startswith(named("")))
