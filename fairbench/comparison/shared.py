"""What a comparison has in common: judges, prompts and targets; and what it has not, each in one line."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fairbench.attributes import AttributeSpace, TargetDistribution
from fairbench.comparison.variants import Variant
from fairbench.errors import UserError
from fairbench.metrics.counts import Target, count_table
from fairbench.records import PRODUCT

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Shared:
    """What all numbers of one comparison have in common."""

    variants: Sequence[Variant]
    panel: Sequence[str]
    """Every judge that has judged all variants."""
    judges: Sequence[str]
    """Who judged each variant: the first of the panel; without one, its own primary judge."""
    prompts: "pd.Index | None"
    """The prompts of all of them; None where they are not paired."""
    targets: Mapping[str, tuple[float, ...]]
    """Attribute -> uneven probabilities that all of them aim at."""
    notes: Sequence[str]
    """In what the variants differ besides the method."""


def find_shared(variants: Sequence[Variant], *, unpaired: bool) -> Shared:
    """Find what ``variants`` have in common.

    Raises
    ------
    UserError
        They have no prompt to be paired by, or no judge but one that one of them learnt from.
    """
    panel = shared_judges(variants)
    judges = [panel[0] if panel else next(iter(each.judges)) for each in variants]
    named = (
        judges
        if panel
        else [f"{name} {each.judges[name][:8]}" for name, each in zip(judges, variants, strict=True)]
    )
    prompts = None if unpaired else _shared_prompts(variants)
    notes = differences(variants, named)
    if prompts is None:
        notes.append("unpaired: prompts are taken as independent samples, which finds less")
    elif len(prompts) < max(each.rows["prompt_id"].nunique() for each in variants):
        notes.append(f"prompts differ: only the {len(prompts)} that all of them have are compared")
    return Shared(variants, panel, judges, prompts, shared_targets([each.target for each in variants]), notes)


def _shared_prompts(variants: Sequence[Variant]) -> "pd.Index":
    """Return the ids of the prompts that all variants have, in the order of the first."""
    first = variants[0]
    stranger = next((each for each in variants if each.suite != first.suite), None)
    if stranger is not None:
        one, other = (" ".join(each.suite)[:60] for each in (first, stranger))
        raise UserError(
            f"{first.run.path} and {stranger.run.path} are of different suites ({one}; {other}): "
            "they have no prompts to be paired by; --unpaired compares them all the same and says so"
        )
    prompts = first.rows.drop_duplicates("prompt_id").set_index("prompt_id")["prompt"]
    for each in variants[1:]:
        theirs = each.rows.drop_duplicates("prompt_id").set_index("prompt_id")["prompt"]
        prompts = prompts[prompts.index.isin(theirs.index)]
        prompts = prompts[prompts == theirs.reindex(prompts.index)]
    if prompts.empty:
        raise UserError("the runs have no prompt in common: --unpaired compares them all the same")
    return prompts.index


def tables(shared: Shared, attribute: str) -> list[np.ndarray]:
    """Return the P x K counts of every variant, prompts and classes in one order."""
    found = [
        count_table(each.rows, judge, attribute)
        for each, judge in zip(shared.variants, shared.judges, strict=True)
    ]
    classes = found[0].columns
    for each, table in zip(shared.variants, found, strict=True):
        if set(table.columns) != set(classes):
            first = shared.variants[0].label
            raise UserError(f"the judges of {first} and {each.label} know other classes of {attribute}")
    ordered = [table[classes] for table in found]
    if shared.prompts is not None:
        ordered = [table.reindex(shared.prompts) for table in ordered]
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


def shared_judges(variants: Sequence[Variant]) -> list[str]:
    """Return the judges that have judged all variants, the same by sha256, and that none has learnt from.

    A judge that one has learnt from is known by its weights, under any name.

    Raises
    ------
    UserError
        All that they share is a judge that one of them has learnt from.
    """
    common = [judge for judge in variants[0].judges if _judged_all(variants, judge)]
    fair = [judge for judge in common if not _pupils(variants, judge)]
    if common and not fair:
        pupil = _pupils(variants, common[0])[0]
        raise UserError(
            f"{pupil.name} ({pupil.label}) was trained by {common[0]}, which may not judge it here"
        )
    return fair


def _judged_all(variants: Sequence[Variant], judge: str) -> bool:
    """Tell whether one judge, the same by sha256, has judged all variants."""
    hashes = [each.judges.get(judge) for each in variants]
    return None not in hashes and len(set(hashes)) == 1


def _pupils(variants: Sequence[Variant], judge: str) -> list[Variant]:
    """Return the variants that have learnt from a judge, whatever it was called then."""
    weights = frozenset().union(*(each.known_by(judge) for each in variants))
    return [each for each in variants if any(weights & each.known_by(teacher) for teacher in each.trained_by)]


def differences(variants: Sequence[Variant], judges: Sequence[str]) -> list[str]:
    """Return one line for everything that the variants do not have in common, and what that means."""
    facts: dict[str, tuple[list[str | None], str]] = {
        "draw classes": (
            [each.draw_class for each in variants],
            "only an emergent method leaves the choice to the model; the others' bias says how well it obeys",
        ),
        "models": (_told_apart([each.model for each in variants]), "not the method alone differs"),
        "suites": (_told_apart([each.suite for each in variants]), "other prompts, another bias"),
        "judges": ([*judges], "what differs may be the judges"),
        "seeds": (_configured(variants, "seed"), "the noise differs: paired by prompt only"),
        "images per prompt": (
            [each.images_per_prompt for each in variants],
            "tested at the smaller number; means, floors, intervals and ranks are at each run's own",
        ),
        "targets": ([_spelled(each.target) for each in variants], "bias is measured from even shares"),
        "sampler steps": (_configured(variants, "steps"), "not the method alone differs"),
        "guidance": (_configured(variants, "guidance"), "not the method alone differs"),
        "draws": (
            [each.draw if each.draw_class in ("drawn", "coupled") else None for each in variants],
            "shares that are drawn as a quota vary less than independent ones",
        ),
    }
    return [
        f"{what} differ: {_grouped(variants, values)}: {meaning}"
        for what, (values, meaning) in facts.items()
        if len({*values} - {None}) > 1
    ]


def _told_apart(things: Sequence[tuple[str, str]]) -> list[str | None]:
    """Return the names, with the beginning of the sha256 where one name stands for several contents."""
    contents = {name: {sha for other, sha in things if other == name and sha} for name, _ in things}
    return [f"{name} {sha[:8]}".rstrip() if len(contents[name]) > 1 else name for name, sha in things]


def _configured(variants: Sequence[Variant], key: str) -> list[str | None]:
    values = [each.run.config.get(key) for each in variants]
    return ["default" if value is None else str(value) for value in values]


def _grouped(variants: Sequence[Variant], values: Sequence[str | None]) -> str:
    found: dict[str, list[str]] = {}
    for each, value in zip(variants, values, strict=True):
        if value is not None:
            found.setdefault(value, []).append(each.label)
    return ", ".join(f"{value} ({' '.join(labels)})" for value, labels in found.items())


def _spelled(target: Mapping[str, Sequence[float]]) -> str:
    """Write a target as it is typed; every uniform one alike, whatever the attributes."""
    parts = (
        f"{name}={'/'.join(f'{value:g}' for value in values)}" for name, values in uneven(target).items()
    )
    return ",".join(parts) or "uniform"
