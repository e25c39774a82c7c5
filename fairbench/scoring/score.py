"""From records to ``metrics.json``: every number of a run, computed by `fairbench.metrics`, in its place."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairbench.attributes import ATTRIBUTES
from fairbench.errors import UserError
from fairbench.finetuning.monitors import told_at_the_end
from fairbench.judges.error_rates import inverse_rates
from fairbench.metrics.agreement import gaming_gap
from fairbench.metrics.counts import paired_biases
from fairbench.metrics.groups import matched_kid, prompt_numbers, recognition, within_groups
from fairbench.metrics.kernel import Features, kid_interval
from fairbench.metrics.quality import fid, kid, similarity
from fairbench.metrics.side_effects import obedience, occupation, preservation
from fairbench.metrics.significance import paired_permutation_test
from fairbench.metrics.summary import summarise
from fairbench.records import ORIGINAL, PRODUCT, face, named, probability, shows_face
from fairbench.storage import atomic_write_json, lock, read_json, read_table, read_tensors
from fairbench.store.layout import (
    CONFIG,
    FEATURES,
    MEASUREMENT,
    METRICS,
    PROVENANCE,
    RECORDS,
    REFERENCE,
    TRAINING_LOG,
    RunDirectory,
)
from fairbench.store.load import finished_run, load_run, measurement_of, read_config, read_records
from fairbench.store.manifest import check_made, note_made
from fairbench.store.measurement import JudgeUsed, Measurement, read_measurement
from fairbench.store.results import (
    SCHEMA_VERSION,
    Estimate,
    Metrics,
    PairedTest,
    Quality,
    Summary,
    VariantMetrics,
    refuse_newer,
)

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

CROSSED = ("gender", "race")
"""Measured as an intersection wherever the judge reads both."""
DISTANCES = ("fid", "kid")
SCORED = (CONFIG, PROVENANCE, RECORDS, FEATURES, MEASUREMENT, REFERENCE, TRAINING_LOG)
"""What metrics are computed from."""


def score_records(
    records: "pd.DataFrame",
    features: "Mapping[str, Tensor]",
    measurement: Measurement,
    reference: "pd.DataFrame | None" = None,
) -> Metrics:
    """Return the content of ``metrics.json``, from stored results alone.

    Parameters
    ----------
    records
        Of all variants, see `fairbench.scoring.judging.record`.
    features
        ``{network}/{variant}`` -> N x D, and ``{network}/reference`` -> M x D.
    measurement
        Who judged, and what was wanted.
    reference
        The M reference images as the primary judge sees them.

    Returns
    -------
    ``variants``: per variant ``bias`` (as the primary judge sees it), ``judges`` (as each judge sees it),
    ``quality``, ``groups`` (the quality within each class) and ``obedience`` or ``preservation`` where the
    suite is about these. ``paired``: per attribute the test of debiased against original, each prompt at
    the smaller number of its images with a face; ``spill_over``:
    the same of the attributes that were not to be balanced; ``side_effects``: of obedience and preservation.
    ``gaming_gap``: per attribute ``value`` and ``interval`` of what the training judge sees less of in the
    debiased images than the evaluation judges do, see `fairbench.metrics.agreement.gaming_gap`.
    ``notes``: why a number is missing.
    """
    notes = list(measurement.notes)
    judges = tuple(_correcting(judge, notes) for judge in measurement.judges)
    measurement = measurement.model_copy(update={"judges": judges})
    primary = measurement.evaluating[0]
    variants = {
        str(name): VariantMetrics(
            bias=biases(rows, primary, measurement),
            judges={
                judge.name: _without_prompts(biases(rows, judge, measurement)) for judge in measurement.judges
            },
            **_qualities(rows, features, measurement, reference, notes),
            **_side_effects(rows, measurement),
        )
        for name, rows in records.groupby("variant", sort=False)
    }
    paired = _paired(variants)
    return Metrics(
        schema_version=SCHEMA_VERSION,
        method=measurement.method,
        draw_class=measurement.draw_class,
        model=measurement.model,
        suite=measurement.suite,
        measures=measurement.measures,
        attributes=list(measurement.attributes),
        target=measurement.target,
        primary_judge=primary.name,
        evaluation_judges=[judge.name for judge in measurement.evaluating],
        training_judge=measurement.training_judge.name if measurement.training_judge else None,
        variants=variants,
        paired=paired,
        spill_over=_spill_over(paired, measurement.attributes),
        side_effects=_paired_side_effects(variants),
        gaming_gap=_gaming_gaps(records, variants, measurement),
        sequential=measurement.sequential,
        notes=notes,
    )


def _correcting(judge: JudgeUsed, notes: list[str]) -> JudgeUsed:
    """Leave out errors of the judge that cannot be taken back, and say why nothing is corrected for them."""
    kept = {}
    for name, counts in judge.confusion.items():
        try:
            inverse_rates(counts)
            kept[name] = counts
        except UserError as error:
            notes.append(f"{name} as {judge.name} sees it is not corrected: {error}")
    return judge.model_copy(update={"confusion": kept})


def biases(rows: "pd.DataFrame", judge: JudgeUsed, measurement: Measurement) -> dict[str, Summary]:
    """Summarise one variant: what was asked for first, then all else that the judge reads.

    A prompt that names an attribute says nothing of how often the model chooses it, and is left out there.
    """
    asked = tuple(name for name in measurement.attributes if name in judge.attributes)
    others = [(name,) for name in ATTRIBUTES if name in judge.attributes]
    crossed = [CROSSED] if set(CROSSED) <= set(judge.attributes) else []
    found: dict[str, Summary] = {}
    wanted = [asked, *others, *crossed] if _named(rows, ATTRIBUTES) == [] else [*others, asked, *crossed]
    for names in wanted:
        free = _free(rows, names)
        if names and PRODUCT.join(names) not in found and len(free):
            errors = {name: judge.confusion[name] for name in names if name in judge.confusion}
            target = {name: measurement.target[name] for name in names if name in measurement.target}
            new = summarise(free, judge.name, names, target=target, confusion=errors)
            found |= {name: Summary(**summary) for name, summary in new.items() if name not in found}
    return found


def _free(rows: "pd.DataFrame", names: Iterable[str]) -> "pd.DataFrame":
    """Return the images whose prompts leave these attributes to the model."""
    return rows[~rows[_named(rows, names)].notna().any(axis=1)]


def _named(rows: "pd.DataFrame", names: Iterable[str]) -> list[str]:
    return [named(name) for name in names if named(name) in rows]


def _qualities(
    rows: "pd.DataFrame",
    features: "Mapping[str, Tensor]",
    measurement: Measurement,
    reference: "pd.DataFrame | None",
    notes: list[str],
) -> dict[str, Any]:
    """Return ``quality``: recognition, face rate, similarities, distances; and ``groups``: within classes."""
    variant, judge = str(rows["variant"].iloc[0]), measurement.evaluating[0]
    quality: dict[str, Any] = {
        "face_rate": float(shows_face(rows, judge.name).mean()),
        **recognition(rows, judge.name),
        **similarity(rows),
    }
    mine = features.get(f"{measurement.network}/{variant}")
    expected = features.get(f"{measurement.network}/reference")
    judged = None
    if expected is not None and mine is not None and reference is not None:
        distances = {"FID": fid(mine, expected), "KID": kid(mine, expected)}
        notes += [f"{name} of {variant}: {d['reason']}" for name, d in distances.items() if d["reason"]]
        quality |= {
            "fid": distances["FID"]["value"],
            "kid": distances["KID"] | {"interval": _interval(rows, mine, reference, expected)},
            "distance_images": {"generated": len(mine), "reference": len(expected)},
        }
        if face(judge.name) in reference:  # labels that come with the images are of those alone
            judged = reference, expected
            classes = _read(judge, measurement.attributes)
            quality["kid_matched"] = matched_kid(rows, mine, judged, judge.name, classes)
    groups = {
        name: within_groups(rows, judge.name, name, classes, mine, judged)
        for name, classes in _read(judge, measurement.attributes).items()
    }
    return {"quality": Quality(**quality), "groups": groups}


def _interval(
    rows: "pd.DataFrame", mine: "Tensor", reference: "pd.DataFrame", expected: "Tensor"
) -> tuple[float, float] | None:
    ours, theirs = prompt_numbers(rows, reference)
    return kid_interval(Features.of(mine.numpy(), ours), Features.of(expected.numpy(), theirs))[1]


def _read(judge: JudgeUsed, names: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    return {name: judge.attributes[name] for name in names if name in judge.attributes}


def _side_effects(rows: "pd.DataFrame", measurement: Measurement) -> dict[str, Any]:
    judge = measurement.evaluating[0]
    if measurement.measures == "obedience":
        return {"obedience": obedience(rows, judge.name, judge.attributes) | occupation(rows, judge.name)}
    if measurement.measures == "preservation":
        return {"preservation": preservation(rows, judge.name)}
    return {}


def _paired(variants: Mapping[str, VariantMetrics]) -> dict[str, PairedTest | None]:
    """Test debiased against original, prompt by prompt, for every attribute."""
    if len(variants) < 2:
        return {}
    original, method = (entry.bias for entry in variants.values())
    return {name: _bias_test(original[name], method[name]) for name in original}


def _bias_test(original: Summary, method: Summary) -> PairedTest | None:
    """Test each prompt at the smaller number of its images: with fewer faces alone, bias is larger."""
    before, after = (
        {row.prompt_id: list(row.counts.values()) for row in summary.per_prompt}
        for summary in (original, method)
    )
    shared = [prompt for prompt in before if prompt in after]
    if not shared:
        return None
    first, second = ([side[prompt] for prompt in shared] for side in (before, after))
    sides = paired_biases(first, second, original.target)
    return _test(*(dict(zip(shared, side.tolist(), strict=True)) for side in sides))


def _test(original: Mapping[str, float | None], method: Mapping[str, float | None]) -> PairedTest | None:
    found = paired_permutation_test(original, method)
    return PairedTest(**found) if found else None


def _spill_over(
    paired: Mapping[str, PairedTest | None], asked: tuple[str, ...]
) -> dict[str, PairedTest | None]:
    """Return what happened to the attributes, and intersections, that hold nothing that was balanced."""
    return {name: test for name, test in paired.items() if not set(name.split(PRODUCT)) & set(asked)}


def _paired_side_effects(variants: Mapping[str, VariantMetrics]) -> dict[str, PairedTest | None]:
    """Test every share of obedience and preservation that both variants have."""
    shares = [
        entry.obedience | {k: v for k, v in entry.preservation.items() if k == "people"}
        for entry in variants.values()
    ]
    if len(shares) < 2:
        return {}
    original, method = shares
    return {
        name: _test(original[name].per_prompt, method[name].per_prompt) for name in original if name in method
    }


def _gaming_gaps(
    records: "pd.DataFrame", variants: Mapping[str, VariantMetrics], measurement: Measurement
) -> dict[str, Estimate]:
    """Compare the training judge with those that have judged the same, on the images it led to."""
    teacher = measurement.training_judge
    debiased = next((name for name in variants if name != ORIGINAL), None)
    if teacher is None or debiased is None:
        return {}
    rows, seen = records[records["variant"] == debiased], variants[debiased].judges
    gaps: dict[str, Estimate] = {}
    for name, learnt in seen[teacher.name].items():
        others = [judge.name for judge in measurement.evaluating if name in seen[judge.name]]
        if others:
            free = _free(rows, name.split(PRODUCT))
            gaps[name] = Estimate.model_validate(gaming_gap(free, teacher.name, others, name, learnt.target))
    return gaps


def _without_prompts(summaries: Mapping[str, Summary]) -> dict[str, Summary]:
    return {
        name: Summary(**{key: summary[key] for key in summary.model_fields_set - {"per_prompt"}})
        for name, summary in summaries.items()
    }


def score(directory: Path | str, *, verify: bool = False) -> Metrics:
    """Compute every metric of a finished run anew from its records and features; write and return them.

    Nothing is generated and no network is loaded. A run of an older schema is brought to the newest one on
    the way; its distances to reference images are kept as they were, if their features were not stored.

    Parameters
    ----------
    directory
        Of the run.
    verify
        Whether to look for changes in the content of all that is read, see
        `fairbench.store.manifest.check_made`.

    Raises
    ------
    UserError
        As `load_run`; or records and features lack what the measurement names.

    Examples
    --------
    >>> import fairbench
    >>> fairbench.score("runs/example").primary_judge
    'portraits-eval-a'
    """
    place = finished_run(directory)
    with lock(place.path):
        check_made(place, SCORED, verify=verify)
        before = _distances_before(place)
        metrics = score_directory(place.path, read_records(place, read_config(place)))
        variants = {
            name: _with_distances(entry, before.get(name)) for name, entry in metrics.variants.items()
        }
        metrics = metrics.model_copy(update={"variants": variants})
        atomic_write_json(place / METRICS, metrics.to_json())
        note_made(place, METRICS)
    return metrics


def _distances_before(place: RunDirectory) -> dict[str, VariantMetrics]:
    """Return what a run of schema 1 measured, of which not all can be computed anew; nothing of a newer one.

    Whose metrics are damaged gets new ones; only those of a newer version of fairbench are kept as they are.
    """
    if place.provenance().schema_version > 1:
        content = {}
        with suppress(UserError):
            content = read_json(place / METRICS)
        refuse_newer(content, place / METRICS)
        return {}
    run = load_run(place.path)
    if not (place / MEASUREMENT).exists():
        atomic_write_json(place / MEASUREMENT, measurement_of(run).model_dump(mode="json"))
    return run.metrics.variants


def _with_distances(now: VariantMetrics, before: VariantMetrics | None) -> VariantMetrics:
    """Keep the distances of ``before`` where they cannot be computed anew."""
    known = before.quality.model_fields_set if before else frozenset()
    kept = {key: before.quality[key] for key in DISTANCES if before and key in known}
    quality = {key: now.quality[key] for key in now.quality.model_fields_set}
    return now.model_copy(update={"quality": Quality(**(kept | quality))})


def score_directory(directory: Path, records: "pd.DataFrame") -> Metrics:
    """Compute ``metrics.json`` anew from what lies in ``directory``."""
    measurement = read_measurement(directory / MEASUREMENT)
    features = read_tensors(directory / FEATURES)
    reference, log = (table(directory / name) for name in (REFERENCE, TRAINING_LOG))
    if missing := next(_missing(records, features, measurement, reference), None):
        raise UserError(f"{directory}: {missing}: restore it from a copy, or begin anew with --fresh")
    metrics = score_records(records, features, measurement, reference)
    if log is not None:
        metrics = told_at_the_end(metrics, log, measurement.updates, measurement.stop_on)
    return metrics


def _missing(
    records: "pd.DataFrame",
    features: "Mapping[str, Tensor]",
    measurement: Measurement,
    reference: "pd.DataFrame | None",
) -> Iterator[str]:
    """Say what of a measurement is neither in the records nor in the features, or not for every image."""
    for judge in measurement.judges:
        read = [(name, label) for name, labels in judge.attributes.items() for label in labels]
        for column in (face(judge.name), *(probability(judge.name, *each) for each in read)):
            if column not in records:
                yield f"{RECORDS} has no column {column}"
    if measurement.network is None:
        return
    images = records["variant"].value_counts(sort=False).to_dict()
    for name, count in (images if reference is None else images | {"reference": len(reference)}).items():
        key = f"{measurement.network}/{name}"
        if key not in features or features[key].ndim != 2 or len(features[key]) != count:
            yield f"{FEATURES} does not hold {key} of {count} images"
        elif not features[key].is_floating_point():
            yield f"{FEATURES} holds {key} as other than numbers with a point"


def table(path: Path) -> "pd.DataFrame | None":
    """Return what a parquet file holds; None where there is none."""
    return read_table(path) if path.exists() else None
