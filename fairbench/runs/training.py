"""How a method of a run is trained: what it gets to learn from, its log, and who watches it.

In the embedded world a whole picture is a face, and real ones are drawn.
"""

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from fairbench.features import load_features
from fairbench.finetuning.monitors import warnings_during
from fairbench.images.rows import ImageSet, read_back
from fairbench.intervention import FitContext
from fairbench.parsing import parse_json
from fairbench.runs.family import of_the_family
from fairbench.runs.plan import Plan
from fairbench.scoring.judging import Instruments
from fairbench.storage import append_text, read_bytes, sha256_of

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

    from fairbench.features import ImageFeatures
    from fairbench.finetuning.faces import DetectedFaces, WholePictures
    from fairbench.intervention import Faces
    from fairbench.judges import Judge
    from fairbench.suites import Prompt


def fit_context(
    plan: Plan, instruments: Instruments, directory: Path, log: Callable[[dict[str, Any]], bool | None]
) -> FitContext:
    """Put together what ``plan.method.fit`` is called with; ``directory`` keeps an unfinished training."""
    return FitContext(
        model=instruments.model,
        prompts=list(plan.training),
        space=plan.space,
        target=plan.target,
        judge=cast("Judge", instruments.training_judge),
        features=list(instruments.training_features),
        updates=plan.updates,
        seed=plan.config.seed,
        directory=directory,
        suite=plan.suite.name,
        suite_version=plan.suite.version,
        log=log,
        faces=training_faces(plan, instruments.training_judge, instruments.training_features),
    )


REAL = 512
"""Drawn faces to find the nearest one among."""


def training_faces(plan: Plan, judge: "Judge | None", features: "Sequence[ImageFeatures]") -> "Faces | None":
    """Return the faces that the settings name, or those of the embedded world; None where there are none.

    They are told apart by the ``face_features`` of the settings, or else by the last of the training
    ``features``.
    """
    if judge is None or not (features and plan.training):
        return None
    network = features[-1]
    if plan.config.face_features:
        network = load_features(plan.config.face_features).to(network.device)
    if plan.real_faces:
        return _detected(plan.real_faces, judge, network)
    return _drawn(network, plan.training) if of_the_family(plan.config.model) else None


def _detected(faces: ImageSet, judge: "Judge", network: "ImageFeatures") -> "DetectedFaces":
    from fairbench.finetuning.faces import DetectedFaces

    def pictures() -> "Iterator[Tensor]":
        for _, images in read_back(faces.variants[-1], Path()):
            yield images.to(judge.device)

    # "aligned" stands for how a face is cut out: what was seen otherwise must not be taken out of the cache
    sha256 = sha256_of(" ".join(["aligned", judge.sha256, network.sha256, faces.sha256]).encode())
    return DetectedFaces(*judge.detector, network, pictures, sha256)


def _drawn(network: "ImageFeatures", prompts: "Sequence[Prompt]") -> "WholePictures":
    from fairbench.finetuning.faces import WholePictures

    def pictures() -> "Tensor":
        from fairbench.portraits.renderer import PortraitsRenderer

        texts = [prompt.text for _ in range(REAL // len(prompts) + 1) for prompt in prompts]
        return PortraitsRenderer().generate(list(islice(texts, REAL)), range(REAL))

    return WholePictures(network, pictures)


class TrainingLog:
    """Appends rows to a file and reads them back."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, row: dict[str, Any]) -> None:
        """Add one row; values that JSON does not know are taken as numbers."""
        append_text(self.path, "\n" + json.dumps(row, default=float))  # first: a torn row spoils no other

    def table(self) -> "pd.DataFrame":
        """Return one row per update, the latest where an update was repeated after an interruption."""
        lines = read_bytes(self.path).decode(errors="replace").splitlines() if self.path.is_file() else []
        return latest([row for line in lines if (row := _read(line)) is not None])


def latest(rows: Sequence[Mapping[Any, Any]]) -> "pd.DataFrame":
    """Return one row per update, the last where there are several."""
    import pandas as pd

    table = pd.DataFrame(rows)
    return table.drop_duplicates("update", keep="last", ignore_index=True) if "update" in table else table


def _read(line: str) -> dict[str, Any] | None:
    """Read one line; the last one of a killed training may be torn."""
    try:
        row = parse_json(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None


class RowMeter:
    """Counts the U-Net rows of a training: each update once, however often it was interrupted.

    Parameters
    ----------
    read
        Tells how many rows have gone through the U-Net so far.
    """

    def __init__(self, read: Callable[[], int]) -> None:
        self._read, self._before, self._of_updates = read, read(), 0

    def tell(self, row: Mapping[str, Any]) -> None:
        """Take in what this process logs of an update."""
        self._of_updates += row.get("unet_rows", 0)

    def total(self, table: "pd.DataFrame") -> int:
        """Return the rows of all updates in ``table``, and those that were spent here besides updates."""
        logged = int(table["unet_rows"].sum()) if "unet_rows" in table else 0
        return logged + self._read() - self._before - self._of_updates


class Watch:
    """Takes one row of the log per update; true means: stop here.

    Parameters
    ----------
    log
        Where the rows go; what it holds of an interrupted training is looked at as well.
    stop_on
        Names in `MONITORS` that end the training.
    warn
        Told each warning in a line, the first time that it holds.
    """

    def __init__(self, log: TrainingLog, stop_on: Collection[str], warn: Callable[[str], None]) -> None:
        self._log, self._stop_on, self._warn = log, frozenset(stop_on), warn
        self._rows: list[Mapping[Any, Any]] = [*log.table().to_dict("records")]
        self._told: set[str] = set()

    def __call__(self, row: dict[str, Any]) -> bool:
        """Keep ``row`` and look at all there is."""
        self._log.append(row)
        self._rows.append(row)
        found = warnings_during(latest(self._rows))
        for warning in found:
            if warning.name not in self._told:
                self._told.add(warning.name)
                self._warn(f"{warning.name}, since update {warning.since}: {warning.sentence}")
        reasons = [warning.name for warning in found if warning.name in self._stop_on]
        if reasons:
            self._warn(f"finetuning ends at update {row['update']}: --stop-on {reasons[0]}")
        return bool(reasons)
