"""What a comparison has in common: judges, prompts and targets; and what it has not, each in one line."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fairbench.attributes import AttributeSpace, TargetDistribution
from fairbench.errors import UserError
from fairbench.metrics.counts import PRODUCT, Target, count_table
from fairbench.runs.entrants import Entrant

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Setting:
    """What all numbers of one comparison have in common."""

    entrants: Sequence[Entrant]
    panel: Sequence[str]
    """Every judge that has judged all entrants."""
    judges: Sequence[str]
    """Who judged each entrant: the first of the panel; without one, its own primary judge."""
    prompts: "pd.Index | None"
    """The prompts of all of them; None where they are not paired."""
    targets: Mapping[str, tuple[float, ...]]
    """Attribute -> uneven probabilities that all of them aim at."""
    notes: Sequence[str]
    """In what the entrants differ besides the method."""


def find_setting(entrants: Sequence[Entrant], *, unpaired: bool) -> Setting:
    """Find what ``entrants`` have in common.

    Raises
    ------
    UserError
        They have no prompt to be paired by, or no judge but one that one of them learnt from.
    """
    panel = shared_judges(entrants)
    judges = [panel[0] if panel else next(iter(each.judges)) for each in entrants]
    named = (
        judges
        if panel
        else [f"{name} {each.judges[name][:8]}" for name, each in zip(judges, entrants, strict=True)]
    )
    prompts = None if unpaired else _shared_prompts(entrants)
    notes = differences(entrants, named)
    if prompts is None:
        notes.append("unpaired: prompts are taken as independent samples, which finds less")
    elif len(prompts) < max(each.rows["prompt_id"].nunique() for each in entrants):
        notes.append(f"prompts differ: only the {len(prompts)} that all of them have are compared")
    return Setting(
        entrants, panel, judges, prompts, shared_targets([each.target for each in entrants]), notes
    )


def _shared_prompts(entrants: Sequence[Entrant]) -> "pd.Index":
    """Return the ids of the prompts that all entrants have, in the order of the first."""
    first = entrants[0]
    stranger = next((each for each in entrants if each.suite != first.suite), None)
    if stranger is not None:
        one, other = (" ".join(each.suite)[:60] for each in (first, stranger))
        raise UserError(
            f"{first.run.path} and {stranger.run.path} are of different suites ({one}; {other}): "
            "they have no prompts to be paired by; --unpaired compares them all the same and says so"
        )
    prompts = first.rows.drop_duplicates("prompt_id").set_index("prompt_id")["prompt"]
    for each in entrants[1:]:
        theirs = each.rows.drop_duplicates("prompt_id").set_index("prompt_id")["prompt"]
        prompts = prompts[prompts.index.isin(theirs.index)]
        prompts = prompts[prompts == theirs.reindex(prompts.index)]
    if prompts.empty:
        raise UserError("the runs have no prompt in common: --unpaired compares them all the same")
    return prompts.index


def tables(setting: Setting, attribute: str) -> list[np.ndarray]:
    """Return the P x K counts of every entrant, prompts and classes in one order."""
    found = [
        count_table(each.rows, judge, attribute)
        for each, judge in zip(setting.entrants, setting.judges, strict=True)
    ]
    classes = found[0].columns
    for each, table in zip(setting.entrants, found, strict=True):
        if set(table.columns) != set(classes):
            first = setting.entrants[0].label
            raise UserError(f"the judges of {first} and {each.label} know other classes of {attribute}")
    ordered = [table[classes] for table in found]
    if setting.prompts is not None:
        ordered = [table.reindex(setting.prompts) for table in ordered]
    return [table.to_numpy() for table in ordered]


def target_of(targets: Mapping[str, Sequence[float]], attribute: str) -> Target:
    """Return what the bias of an attribute or intersection is measured from; None for even shares."""
    names = attribute.split(PRODUCT)
    given = {name: values for name, values in uneven(targets).items() if name in names}
    if not given:
        return None
    return tuple(TargetDistribution.parse(given, AttributeSpace(tuple(names))).joint(names).tolist())


def shared_targets(targets: Sequence[Mapping[str, tuple[float, ...]]]) -> dict[str, tuple[float, ...]]:
    """Return the uneven targets that all have; where they differ, bias is measured from even shares."""
    first, *others = targets
    return {
        name: values
        for name, values in uneven(first).items()
        if all(other.get(name) == values for other in others)
    }


def uneven(targets: Mapping[str, Any]) -> dict[str, Any]:
    """Return the targets that are not uniform."""
    return {name: values for name, values in targets.items() if max(values) - min(values) > 1e-9}


def shared_judges(entrants: Sequence[Entrant]) -> list[str]:
    """Return the judges that have judged all entrants, the same by sha256, and that none has learnt from.

    A judge that one has learnt from is known by its weights, under any name.

    Raises
    ------
    UserError
        All that they share is a judge that one of them has learnt from.
    """
    first = entrants[0].judges.items()
    common = [(name, sha) for name, sha in first if all(each.judges.get(name) == sha for each in entrants)]
    pupils = {known: each for each in entrants for name in each.trained_by for known in each.known_by(name)}
    taught = {
        name: pupils.keys() & frozenset().union(*(each.known_by(name) for each in entrants))
        for name, _ in common
    }
    fair = [name for name, known in taught.items() if not known]
    if common and not fair:
        name, known = next(iter(taught.items()))
        pupil = pupils[min(known)]
        raise UserError(f"{pupil.name} ({pupil.label}) was trained by {name}, which may not judge it here")
    return fair


def differences(entrants: Sequence[Entrant], judges: Sequence[str]) -> list[str]:
    """Return one line for everything that the entrants do not have in common, and what that means."""
    facts: dict[str, tuple[list[str | None], str]] = {
        "draw classes": (
            [each.draw_class for each in entrants],
            "only an emergent method leaves the choice to the model; the others' bias says how well it obeys",
        ),
        "models": (_told_apart([each.model for each in entrants]), "not the method alone differs"),
        "suites": (_told_apart([each.suite for each in entrants]), "other prompts, another bias"),
        "judges": ([*judges], "what differs may be the judges"),
        "seeds": (_configured(entrants, "seed"), "the noise differs: paired by prompt only"),
        "images per prompt": (
            [each.images_per_prompt for each in entrants],
            "tested at the smaller number; means, floors, intervals and ranks are at each run's own",
        ),
        "targets": ([_spelled(each.target) for each in entrants], "bias is measured from even shares"),
        "sampler steps": (_configured(entrants, "steps"), "not the method alone differs"),
        "guidance": (_configured(entrants, "guidance"), "not the method alone differs"),
        "draws": (
            [each.draw if each.draw_class in ("drawn", "coupled") else None for each in entrants],
            "shares that are drawn as a quota vary less than independent ones",
        ),
    }
    return [
        f"{what} differ: {_grouped(entrants, values)}: {meaning}"
        for what, (values, meaning) in facts.items()
        if len({*values} - {None}) > 1
    ]


def _told_apart(things: Sequence[tuple[str, str]]) -> list[str | None]:
    """Return the names, with the beginning of the sha256 where one name stands for several contents."""
    contents = {name: {sha for other, sha in things if other == name and sha} for name, _ in things}
    return [f"{name} {sha[:8]}".rstrip() if len(contents[name]) > 1 else name for name, sha in things]


def _configured(entrants: Sequence[Entrant], key: str) -> list[str | None]:
    values = [each.run.config.get(key) for each in entrants]
    return ["default" if value is None else str(value) for value in values]


def _grouped(entrants: Sequence[Entrant], values: Sequence[str | None]) -> str:
    found: dict[str, list[str]] = {}
    for each, value in zip(entrants, values, strict=True):
        if value is not None:
            found.setdefault(value, []).append(each.label)
    return ", ".join(f"{value} ({' '.join(labels)})" for value, labels in found.items())


def _spelled(target: Mapping[str, Sequence[float]]) -> str:
    """Write a target as it is typed; every uniform one alike, whatever the attributes."""
    parts = (
        f"{name}={'/'.join(f'{value:g}' for value in values)}" for name, values in uneven(target).items()
    )
    return ",".join(parts) or "uniform"
