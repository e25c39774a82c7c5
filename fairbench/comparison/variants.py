"""Who takes part in a comparison: every run with its method, and the original models once each."""

import string
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from fairbench.errors import UserError
from fairbench.records import ORIGINAL
from fairbench.store.layout import MEASUREMENT
from fairbench.store.load import StoredRun
from fairbench.store.measurement import read_measurement
from fairbench.store.provenance import Cost, cost

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Variant:
    """One variant of one run."""

    label: str
    """A short name for tables: A, B, ..."""
    run: StoredRun
    recorded: str
    """What the records of the run call it."""

    @property
    def name(self) -> str:
        """The method as it is typed, or ``original``."""
        return ORIGINAL if self.recorded == ORIGINAL else self.run.metrics.method

    @cached_property
    def rows(self) -> "pd.DataFrame":
        """The records of this variant."""
        return self.run.records[self.run.records["variant"] == self.recorded].reset_index(drop=True)

    @property
    def draw_class(self) -> str:
        """Who chooses the attribute of an image: a model without the run's method always does so itself."""
        bare = self.recorded == ORIGINAL and self.run.metrics.method != ORIGINAL
        return "emergent" if bare else self.run.metrics.draw_class

    @property
    def draw(self) -> str:
        """How classes are drawn, for a method that has them drawn."""
        return str(self.run.config.get("draw", "iid"))

    @property
    def judges(self) -> dict[str, str]:
        """Evaluation judges, the primary one first, with their sha256."""
        hashes = self.run.provenance.sha256.judges
        return {name: hashes.get(name, "") for name in self.run.metrics.evaluation_judges}

    @property
    def trained_by(self) -> dict[str, str]:
        """The judge that the method learnt from, with its sha256; none for the original model."""
        name, hashes = self.run.metrics.training_judge, self.run.provenance.sha256.training_judge
        return {} if self.recorded == ORIGINAL or name is None else {name: hashes.get(name, "")}

    def known_by(self, judge: str) -> frozenset[str]:
        """Return the sha256 of a judge and of its weights, as far as they were kept; else its name."""
        path = self.run.path / MEASUREMENT
        used = read_measurement(path).judges if path.is_file() else ()
        kept = [{each.sha256, *each.weights} for each in used if each.name == judge]
        sha256 = (self.judges | self.trained_by).get(judge, "")
        return frozenset({sha256}.union(*kept) - {""} or {judge})

    @property
    def suite(self) -> tuple[str, str]:
        """Name and sha256 of the prompts."""
        return self.run.metrics.suite, self.run.provenance.sha256.suite

    @property
    def model(self) -> tuple[str, str]:
        """Name and sha256 of the model; the latter is empty where it is not known, as of given images."""
        hashes = self.run.provenance.sha256.model
        return self.run.metrics.model, next(iter(hashes.values()), None) or ""

    @property
    def target(self) -> dict[str, tuple[float, ...]]:
        """Attribute -> the probabilities that the run set out for."""
        return self.run.metrics.target

    @property
    def cost(self) -> Cost:
        """What it took; see `fairbench.store.provenance.cost`."""
        return cost(self.run.provenance, self.recorded)

    @property
    def kid(self) -> float | None:
        """Distance to the reference images, where there are any."""
        return self.run.metrics.variants[self.recorded].quality.value("kid")

    @property
    def images_per_prompt(self) -> str:
        """How many images each prompt has; a range where not all have the same."""
        sizes = self.rows.groupby("prompt_id").size()
        return str(sizes.min()) if sizes.min() == sizes.max() else f"{sizes.min()} to {sizes.max()}"


def variants_of(runs: Sequence[StoredRun]) -> list[Variant]:
    """Return the original models, each once, then the methods in the order of the runs.

    Raises
    ------
    UserError
        There are fewer than two.
    """
    originals: dict[Any, tuple[StoredRun, str]] = {}
    methods = []
    for run in runs:
        for variant in map(str, run.records["variant"].unique()):
            if variant == ORIGINAL:
                originals.setdefault(_of_the_model(Variant("", run, variant)), (run, variant))
            else:
                methods.append((run, variant))
    found = [*originals.values(), *methods]
    if len(found) < 2:
        raise UserError(f"{runs[0].path}: there is nothing to compare it with: name another run")
    if len(found) > len(string.ascii_uppercase):
        raise UserError(f"{len(found)} are too many to compare: at most {len(string.ascii_uppercase)}")
    return [
        Variant(label, run, variant)
        for label, (run, variant) in zip(string.ascii_uppercase, found, strict=False)
    ]


def _of_the_model(original: Variant) -> tuple[Any, ...]:
    """Two with this in common have the same images."""
    run, settings = original.run, ("seed", "steps", "guidance", "images_per_prompt", "test_prompts", "judges")
    split, images = run.config.get("split", "test"), run.provenance.sha256.images
    facts = (original.model, original.suite, split, original.draw_class, images)
    return (*facts, *(str(run.config.get(key)) for key in settings))
