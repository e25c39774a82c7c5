"""The same proof with pictures: known people are drawn, judged as any images are, and summarised.

A second time the judge's answers are changed at known rates, to see these errors taken back as well.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from fairbench.attributes import AttributeSpace
from fairbench.metrics.bias import labels_of
from fairbench.metrics.gap import gap_estimate
from fairbench.metrics.summary import summarise
from fairbench.validity.populations import judge_rates

if TYPE_CHECKING:
    from fairbench.judges import Judge
    from fairbench.portraits.renderer import PortraitsRenderer
    from fairbench.suites import Prompt

SPACE = AttributeSpace(("gender", "race"))
MODELS = {
    "fair": {"male": 0.5, "WMELH": 0.25},
    "skewed": {"male": 0.8, "WMELH": 0.55},
    "one-sided": {"male": 1.0, "WMELH": 1.0},
}
"""What the renderer is told; gender, race and their product have 2, 4 and 8 classes."""
BATCH = 256


@dataclass(frozen=True)
class Drawn:
    """Pictures that were judged, and who is really in them."""

    records: pd.DataFrame
    truth: dict[str, np.ndarray]
    """Attribute, or the product of both -> the class of every picture."""


def pictures(judge_name: str, prompts: int, images: int, labelled: int, seed: int) -> pd.DataFrame:
    """Draw, judge and summarise every model; one row per model, kind of errors and attribute.

    Parameters
    ----------
    judge_name
        Who judges.
    prompts, images
        Test prompts of the suite of occupations, and pictures of each.
    labelled
        Pictures of training prompts that the judge's confusion matrices are counted on.
    seed
        Of the people and of the errors.

    Returns
    -------
    ``truth``, the gap that the renderer was told; ``drawn``, that of the people it then drew; and, as
    summarised from the judge's records, ``mean bias`` beside its ``floor``, the gap ``uncorrected`` and
    ``corrected``, its interval ``low`` to ``high``, and whether it ``holds`` the truth.
    """
    from fairbench.judges import load_judge
    from fairbench.portraits.renderer import PortraitsRenderer
    from fairbench.suites import load_suite

    judge, suite, rng = load_judge(judge_name), load_suite("occupations"), np.random.default_rng(seed)
    train = suite.prompts("train")
    known = _judged(judge, PortraitsRenderer(**MODELS["fair"]), train, -(-labelled // len(train)), rng)
    rows = []
    for name, shares in MODELS.items():
        drawn = _judged(judge, PortraitsRenderer(**shares), suite.prompts("test")[:prompts], images, rng)
        rows += _rows(judge.name, name, "the judge's", drawn, known)
        rows += _rows(judge.name, name, "injected as well", _misread(drawn, rng), _misread(known, rng))
    return pd.DataFrame(rows)


def _judged(
    judge: "Judge",
    renderer: "PortraitsRenderer",
    prompts: "Sequence[Prompt]",
    images: int,
    rng: np.random.Generator,
) -> Drawn:
    """Draw ``images`` pictures of every prompt and let the judge see them."""
    asked = [prompt for prompt in prompts for _ in range(images)]
    texts, seeds = [prompt.text for prompt in asked], rng.integers(2**63, size=len(asked)).tolist()
    columns: dict[str, list[np.ndarray]] = {}
    for start in range(0, len(asked), BATCH):
        batch = slice(start, start + BATCH)
        judgement = judge.judge(renderer.generate(texts[batch], seeds[batch]))
        columns.setdefault("face", []).append(judgement.face.numpy())
        for attribute, classes in SPACE.classes.items():
            for label, column in zip(classes, judgement.probabilities[attribute].numpy().T, strict=True):
                columns.setdefault(f"{attribute}/{label}", []).append(column)
    read = {f"{judge.name}/{name}": np.concatenate(parts) for name, parts in columns.items()}
    records = pd.DataFrame({"prompt_id": [prompt.id for prompt in asked], "prompt": texts} | read)
    people = renderer.people(texts, seeds)
    truth = {name: np.array([person.attributes[name] for person in people]) for name in SPACE.names}
    sizes = [len(classes) for classes in SPACE.classes.values()]
    return Drawn(records, truth | {_product(): np.ravel_multi_index(tuple(truth.values()), tuple(sizes))})


def _misread(drawn: Drawn, rng: np.random.Generator) -> Drawn:
    """Change every answer of the judge to another class at the rates of `judge_rates`."""
    records = drawn.records.copy()
    for attribute in SPACE.names:
        columns = _columns(records, attribute)
        said = judge_rates(len(columns))[labels_of(records[columns])]
        now = (rng.random((len(records), 1)) > said.cumsum(axis=1)[:, :-1]).sum(axis=1)
        records[columns] = np.eye(len(columns))[now]
    return Drawn(records, drawn.truth)


def _rows(judge: str, model: str, errors: str, drawn: Drawn, known: Drawn) -> list[dict[str, Any]]:
    """Summarise one model as read with one kind of errors."""
    confusion = {name: _confusion(known, name) for name in (*SPACE.names, _product())}
    found = summarise(drawn.records, judge, SPACE.names, confusion=confusion)
    rows = []
    for attribute, summary in found.items():
        told, classes = _told(model, attribute), len(confusion[attribute])
        truth = float(np.sqrt(2 / (classes - 1) * ((told - 1 / classes) ** 2).sum()))
        people = pd.crosstab(drawn.records["prompt_id"], drawn.truth[attribute])
        counted = gap_estimate(people.reindex(columns=range(classes), fill_value=0).to_numpy())
        low, high = summary["corrected"]["interval"]
        rows.append(
            {
                "model": model,
                "attribute": attribute,
                "classes": classes,
                "errors": errors,
                "images": f"{summary['prompts']} x {summary['images'] // summary['prompts']}",
                "face rate": summary["face_rate"],
                "truth": truth,
                "drawn": counted["signed"] if counted else None,
                "mean bias": summary["bias_mean"],
                "floor": summary["floor"],
                "uncorrected": summary["debiased_signed"],
                "corrected": summary["corrected"]["signed"],
                "low": low,
                "high": high,
                "holds": low <= truth <= high,
            }
        )
    return rows


def _confusion(known: Drawn, name: str) -> np.ndarray:
    """Count the judge's answers by who is really in the picture, K x K."""
    parts = name.split(" x ")
    columns = [_columns(known.records, part) for part in parts]
    said = np.ravel_multi_index(
        tuple(labels_of(known.records[part]) for part in columns), tuple(len(part) for part in columns)
    )
    classes = int(np.prod([len(part) for part in columns]))
    table = np.zeros((classes, classes))
    np.add.at(table, (known.truth[name], said), 1)
    return table


def _columns(records: pd.DataFrame, attribute: str) -> list[str]:
    return [str(column) for column in records if f"/{attribute}/" in str(column)]


def _told(model: str, attribute: str) -> np.ndarray:
    """Return the probabilities that the renderer draws this attribute's classes with."""
    from fairbench.portraits.renderer import PortraitsRenderer

    shares = PortraitsRenderer(**MODELS[model]).distributions
    told = np.ones(1)
    for part in attribute.split(" x "):
        told = np.outer(told, shares[part]).ravel()
    return told


def _product() -> str:
    return " x ".join(SPACE.names)
