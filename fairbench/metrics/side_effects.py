"""What a method does besides: to prompts that name an attribute, and to pictures of nobody."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from fairbench.metrics.groups import likeliest, recognition
from fairbench.metrics.intervals import mean_interval
from fairbench.records import recognised, shows_face

ALL = "all"
"""Every attribute that the prompt names, at once."""


def obedience(
    records: pd.DataFrame, judge: str, classes: Mapping[str, Sequence[str]]
) -> dict[str, dict[str, Any]]:
    """Share of images that show the class their prompt names.

    An image without a face shows no class, so it does not obey.

    Parameters
    ----------
    records
        The rows of one variant; ``named/{attribute}`` holds the class that is named, or nothing.
    judge, classes
        Who judges, and attribute -> classes as this judge reads them.

    Returns
    -------
    Per attribute, and for ``all``: ``mean`` and its ``interval`` over prompts, ``images``, ``prompts``,
    ``with_face`` (the mean among images with a face), ``per_class`` (class -> mean), ``per_prompt`` (prompt
    id -> mean).

    Examples
    --------
    >>> records = pd.DataFrame({"prompt_id": "nurse", "named/gender": "female", "judge/face": [1, 1]})
    >>> records[["judge/gender/female", "judge/gender/male"]] = [[1, 0], [0, 1]]
    >>> obedience(records, "judge", {"gender": ["female", "male"]})["gender"]["mean"]
    0.5
    """
    named = {name: records[f"named/{name}"] for name in classes if f"named/{name}" in records}
    face, found = shows_face(records, judge), {}
    everything, asked = face.copy(), np.zeros(len(records), dtype=bool)
    for name, wanted in named.items():
        asks = wanted.notna().to_numpy()
        seen = np.array([*classes[name], ""])[likeliest(records, judge, name, classes[name])]
        obeyed = face & (seen == wanted.to_numpy())
        if asks.any():
            found[name] = _share(records[asks], obeyed[asks], face[asks]) | {
                "per_class": pd.Series(obeyed[asks]).groupby(wanted[asks].to_numpy()).mean().to_dict()
            }
        everything, asked = everything & (obeyed | ~asks), asked | asks
    if asked.any():
        found[ALL] = _share(records[asked], everything[asked], face[asked])
    return found


def preservation(records: pd.DataFrame, judge: str) -> dict[str, Any]:
    """How much images of nobody stayed as the original model makes them of the same noise.

    Returns
    -------
    ``clip_i`` and ``dino``, each with ``mean``, ``interval`` over prompts, ``images`` and ``per_prompt``,
    where there is an original to compare with; ``people``: the share of images with a face.

    Examples
    --------
    >>> records = pd.DataFrame({"prompt_id": "bridge", "judge/face": [1, 0], "dino": [0.5, 1.0]})
    >>> found = preservation(records, "judge")
    >>> found["people"]["mean"], found["dino"]["mean"]
    (0.5, 0.75)
    """
    found: dict[str, Any] = {"people": _share(records, shows_face(records, judge))}
    for name in ("clip_i", "dino"):
        if name in records and records[name].notna().any():
            found[name] = _share(records, records[name].to_numpy(float))
    return found


def occupation(records: pd.DataFrame, judge: str) -> dict[str, Any]:
    """Share of images whose concept is recognised, with its interval; empty where the judge knows no word.

    Examples
    --------
    >>> records = pd.DataFrame({"prompt_id": "nurse", "judge/recognised": [1.0, 0.0, None]})
    >>> occupation(records, "judge")["recognised"]["mean"]
    0.5
    """
    known = recognition(records, judge)
    if not known:
        return {}
    values = records[recognised(judge)]
    rows = records[values.notna().to_numpy()]
    return {"recognised": _share(rows, values.dropna().to_numpy(float))}


def _share(rows: pd.DataFrame, values: np.ndarray, face: np.ndarray | None = None) -> dict[str, Any]:
    per_prompt = pd.Series(values, dtype=float).groupby(rows["prompt_id"].to_numpy(), sort=False).mean()
    interval = mean_interval(per_prompt)
    share = {
        "mean": float(np.mean(values)),
        "interval": list(interval) if interval else None,
        "images": len(rows),
        "prompts": len(per_prompt),
        "per_prompt": {str(name): float(value) for name, value in per_prompt.items()},
    }
    if face is not None:
        share["with_face"] = float(values[face].mean()) if face.any() else None
    return share
