"""Is a run worse than its reference by more than noise? One-sided tests, all of them one family."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fairbench.comparison.reference import Reference
from fairbench.comparison.shared import shared_targets, target_of
from fairbench.metrics.counts import mean_known, paired_biases, prompt_biases, unpaired_biases
from fairbench.metrics.significance import LEVEL, holm, sign_flip_test, welch_test


@dataclass(frozen=True)
class Verdict:
    """One metric of a run beside that of its reference."""

    metric: str
    value: float | None
    """None where the run does not measure any more what its reference does."""
    reference: float
    p_value: float = 0.0
    """Of "not worse by more than the tolerance", adjusted by Holm."""

    @property
    def worse(self) -> bool:
        """Whether noise does not explain it; what is not measured may be anything."""
        return self.value is None or self.p_value <= LEVEL


def check(run: Reference, reference: Reference, *, tolerance: float = 0.0) -> tuple[list[Verdict], list[str]]:
    """Test every metric that the reference has; one that the run lacks counts as worse.

    Bias is worse when it is higher, quality when it is lower. Where both share their prompts the tests are
    paired, by `sign_flip_test`, else Welch's; bias is taken at the number of images of the smaller run. With
    probability 95 % no metric is called worse that is not.

    Parameters
    ----------
    run, reference
        As `fairbench.comparison.reference.reference_of` makes them.
    tolerance
        How much worse a metric may be, in its own units.

    Returns
    -------
    The metrics, those that the run lacks last, and one line for everything else that the two do not have in
    common, such as a metric that only the run has.
    """
    prompts = [prompt for prompt in run.prompts if prompt in reference.prompts]
    paired = run.suite_sha256 == reference.suite_sha256 and bool(prompts)
    ours, theirs = (prompts, prompts) if paired else ([*run.prompts], [*reference.prompts])
    targets = shared_targets([run.target, reference.target])
    found = []
    for name in (name for name, classes in run.classes.items() if reference.classes.get(name) == classes):
        one, other = (
            np.array([side.prompts[prompt].counts[name] for prompt in chosen])
            for side, chosen in ((run, ours), (reference, theirs))
        )
        biases = (paired_biases if paired else unpaired_biases)(one, other, target_of(targets, name))
        found.append((f"{name} bias", biases, 1))
    measures = list(dict.fromkeys(name for prompt in run.prompts.values() for name in prompt.quality))
    for name in measures:
        one, other = _quality(run, ours, name), _quality(reference, theirs, name)
        found.append((name, (one, other), -1))
    found = [
        (name, sides, sign) for name, sides, sign in found if all(np.isfinite(side).any() for side in sides)
    ]
    p_values = [_p_value(*sides, sign, tolerance, paired) for _, sides, sign in found]
    rows = [
        Verdict(name, float(np.nanmean(one)), float(np.nanmean(other)), float(adjusted))
        for (name, (one, other), _), adjusted in zip(found, holm(p_values), strict=True)
    ]
    tested, expected = {row.metric for row in rows}, _means(reference, theirs, targets)
    rows += [Verdict(name, None, mean) for name, mean in expected.items() if name not in tested]
    new = [f"{name}: not in the reference" for name in _means(run, ours, targets) if name not in tested]
    return rows, [*_differences(run, reference, paired), *new]


def _means(
    side: Reference, prompts: Sequence[str], targets: Mapping[str, Sequence[float]]
) -> dict[str, float]:
    """Return the mean of every metric that has a value."""
    biases = {
        f"{name} bias": prompt_biases(
            [side.prompts[key].counts[name] for key in prompts], target_of(targets, name)
        )
        for name in side.classes
    }
    measures = dict.fromkeys(name for key in prompts for name in side.prompts[key].quality)
    columns = biases | {name: _quality(side, prompts, name) for name in measures}
    means = {name: mean_known(column) for name, column in columns.items()}
    return {name: mean for name, mean in means.items() if mean is not None}


def _p_value(one: np.ndarray, other: np.ndarray, sign: int, tolerance: float, paired: bool) -> float:
    if paired:
        return float(sign_flip_test(sign * (one - other) - tolerance, alternative="greater"))
    return welch_test(sign * one - tolerance, sign * other, alternative="greater")


def _quality(side: Reference, prompts: Sequence[str], name: str) -> np.ndarray:
    """Return one value per prompt, nan where there is none."""
    return np.array([side.prompts[prompt].quality.get(name) for prompt in prompts], dtype=float)


def _images(side: Reference) -> str:
    """Return the mean number of images that were counted for the first attribute."""
    name = next(iter(side.classes))
    return f"{np.mean([sum(prompt.counts[name]) for prompt in side.prompts.values()]):.3g}"


def _differences(run: Reference, reference: Reference, paired: bool) -> list[str]:
    facts = {
        "method": (run.method, reference.method),
        "draw class": (run.draw_class, reference.draw_class),
        "model": (run.model, reference.model),
        "target": (run.target, reference.target),
        "seed": (run.seed, reference.seed),
        "suite": (run.suite, reference.suite),
        "prompts": (len(run.prompts), len(reference.prompts)),
        "images with a face per prompt": (_images(run), _images(reference)),
    }
    lines = [
        f"{what}: {mine}, in the reference {theirs}"
        for what, (mine, theirs) in facts.items()
        if mine != theirs
    ]
    if not paired:
        return [*lines, "unpaired: the prompts are not those of the reference, which finds less"]
    return [*lines, *(["paired by prompt only: the noise differs"] if run.seed != reference.seed else [])]
