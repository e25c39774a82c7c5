"""How often a judge takes one class for another, counted on labelled images, and where that is kept.

The counts are what a correction of measured frequencies needs; an accuracy alone is not enough for it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from fairbench.attributes import FACE_THRESHOLD
from fairbench.errors import UserError, invalid
from fairbench.judges.description import Attribute, Counts, JudgeDescription, check_confusion
from fairbench.networks import WEIGHTS, find, packaged, read_description
from fairbench.storage import atomic_write_bytes, atomic_write_json, read_json, sha256_of

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from fairbench.judges.judge import Judge, Judgement

DESCRIPTION = "judge.json"
_SIDE = TypeAdapter(dict[Attribute, Counts])


def confusion_counts(judgement: "Judgement", labels: "Mapping[str, Tensor]") -> "dict[str, np.ndarray]":
    """Return attribute -> K x K counts ``C[t, j]`` of images of class t that were judged to be of class j.

    Images in which no face was seen are left out, as they are when a model is measured.

    Parameters
    ----------
    judgement
        Of N images.
    labels
        Attribute -> N class numbers, -1 where the class is not known; what was not judged is passed over.

    Examples
    --------
    >>> import torch
    >>> from fairbench.judges.judge import Judgement
    >>> says = Judgement({"gender": torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])}, face=torch.ones(3))
    >>> confusion_counts(says, {"gender": torch.tensor([0, 1, 1])})["gender"].tolist()
    [[1, 0], [1, 1]]
    """
    import numpy as np

    seen = (judgement.face >= FACE_THRESHOLD).cpu()
    counts = {}
    for name in judgement.probabilities.keys() & labels.keys():
        probabilities, size = judgement.probabilities[name].cpu(), judgement.probabilities[name].shape[1]
        places = labels[name] * size + probabilities.argmax(1)
        places = places[seen & (labels[name] >= 0)]
        counts[name] = np.bincount(places.numpy(), minlength=size**2).reshape(size, size)
    return counts


def as_counts(counts: "Mapping[str, np.ndarray]") -> dict[str, Counts]:
    """Return the matrices as they are described and stored.

    Examples
    --------
    >>> import numpy as np
    >>> as_counts({"gender": np.array([[9, 1], [2, 8]])})
    {'gender': ((9, 1), (2, 8))}
    """
    return {name: tuple(tuple(row) for row in matrix.tolist()) for name, matrix in counts.items()}


def accuracy(counts: "np.ndarray") -> float | None:
    """Share of the counts on the diagonal; no value where nothing was counted.

    Examples
    --------
    >>> import numpy as np
    >>> accuracy(np.array([[9, 1], [2, 8]]))
    0.85
    """
    return float(counts.trace() / counts.sum()) if counts.sum() else None


def side_file(judge_file: Path) -> Path:
    """Return where the confusion of a judge file is kept, beside it.

    Examples
    --------
    >>> side_file(Path("judge.yaml")).name
    'judge.confusion.json'
    """
    return judge_file.with_suffix(".confusion.json")


def read_side_file(
    judge_file: Path, sha256: str, attributes: dict[str, tuple[str, ...]]
) -> dict[str, Counts]:
    """Return the counts beside a judge file; none where they were not measured.

    Raises
    ------
    UserError
        They are damaged, or were measured with other files than those of now, whose errors may differ.

    Examples
    --------
    >>> read_side_file(Path("not-measured.yaml"), sha256="", attributes={})
    {}
    """
    path = side_file(judge_file)
    if not path.is_file():
        return {}

    def damaged(error: object) -> str:
        return f"{path}: is damaged ({error}): remove it and measure again"

    try:
        content = read_json(path, damaged)
        measured_with, confusion = content["judge"], _SIDE.validate_python(content["confusion"])
        check_confusion(confusion, attributes)
    except ValidationError as error:
        raise invalid(str(path), error) from None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(damaged(error)) from None
    if measured_with != sha256:
        raise UserError(
            f"{path}: was measured before {judge_file.name} or a file it names changed: "
            "remove it, then measure again with: fairbench judges check --write"
        )
    return confusion


def write_confusion(name: str | Path, judge: "Judge", counts: "Mapping[str, np.ndarray]") -> Path:
    """Keep ``counts`` in the ``judge.json`` of a judge, or beside its judge file; return where.

    Those of a packaged judge are kept in a copy of it, a directory of its name in the current one.
    Other attributes keep the counts they have.

    Raises
    ------
    UserError
        A class has no images, or the judge hardly tells two apart: such counts correct nothing.
    """
    try:
        check_confusion(as_counts(counts), judge.attributes)
    except ValueError as error:
        raise UserError(f"nothing was kept: {error}") from None
    if Path(name).suffix in (".yaml", ".yml"):
        path = side_file(Path(name))
        atomic_write_json(
            path,
            {"schema_version": 1, "judge": judge.sha256, "confusion": judge.confusion | as_counts(counts)},
        )
        return path
    directory = find("judges", name, DESCRIPTION)
    if str(name) in packaged("judges", DESCRIPTION):
        directory = _own_copy(directory, Path(name))
    path = directory / DESCRIPTION
    description = read_description(path, JudgeDescription)
    merged = description.confusion | as_counts(counts)
    atomic_write_json(path, description.model_copy(update={"confusion": merged}).model_dump(mode="json"))
    return path


def _own_copy(packaged_one: Path, place: Path) -> Path:
    """Copy a packaged judge to ``place``, unless an earlier call did; what is installed stays as it is."""
    if not place.exists():
        atomic_write_bytes(place / WEIGHTS, (packaged_one / WEIGHTS).read_bytes())
        atomic_write_bytes(place / DESCRIPTION, (packaged_one / DESCRIPTION).read_bytes())
    files = [place / DESCRIPTION, place / WEIGHTS]
    if not all(map(Path.is_file, files)) or sha256_of(files[1]) != sha256_of(packaged_one / WEIGHTS):
        raise UserError(f"{place}: is no copy of the judge {packaged_one.name}: remove or rename it")
    return place
