"""Generate where it tells most, until the gap is known well enough, instead of so many of each prompt."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fairbench.errors import UserError
from fairbench.images.files import read_image
from fairbench.images.rows import planned_image, read_back
from fairbench.metrics.bias import class_counts
from fairbench.metrics.fixed_design import images_for_width
from fairbench.metrics.groups import likeliest
from fairbench.metrics.sequential import GapSequence
from fairbench.records import ORIGINAL, shows_face
from fairbench.scoring.judging import look
from fairbench.store.results import Sequential, SequentialGap

if TYPE_CHECKING:
    import pandas as pd

    from fairbench.runs.plan import Plan
    from fairbench.scoring.judging import Instruments
    from fairbench.store.layout import RunDirectory

BLOCKS = 32
"""Blocks of images between two looks at the interval."""
HOPELESS = 60
"""Images without one face after which a prompt is given up."""


class Adaptive:
    """One evaluation that stops by itself."""

    def __init__(
        self,
        plan: "Plan",
        place: "RunDirectory",
        instruments: "Instruments",
        generate: "Callable[[pd.DataFrame], None]",
        read: "Callable[[Path], np.ndarray]" = read_image,
    ) -> None:
        self.plan, self.place, self.judge = plan, place, instruments.judges[0]
        self.generate, self.read = generate, read
        seed = plan.config.seed
        self.sequences = {
            name: GapSequence(len(plan.test), len(target), target, seed=seed)
            for name, target in plan.target.probabilities.items()
        }
        self.rows: list[dict[str, Any]] = []
        self.made, self.faces = np.zeros((2, len(plan.test)), dtype=int)
        self.unused: list[list[dict[str, int]]] = [[] for _ in plan.test]

    def until(self, width: float, progress: Callable[[float], None]) -> "pd.DataFrame":
        """Generate until every attribute's interval is at most so wide; return the rows of all images."""
        import pandas as pd

        while not self.rows or max(sequence.width for sequence in self.sequences.values()) > width:
            widest = max(self.sequences.values(), key=lambda sequence: sequence.width)
            chosen, chances = widest.ask(BLOCKS)
            self._fill(np.bincount(chosen, minlength=len(self.made)) * widest.block)
            blocks = [[self.unused[k].pop(0) for _ in range(widest.block)] for k in chosen]
            for name, sequence in self.sequences.items():
                size = len(self.plan.space.classes[name])
                counts = [class_counts([image[name] for image in block], size) for block in blocks]
                sequence.tell(chosen, chances, counts)
            progress(widest.width)
        rows = pd.DataFrame(self.rows)
        order = {prompt.id: k for k, prompt in enumerate(self.plan.test)}
        places = rows.assign(place=rows["prompt_id"].map(order)).sort_values(["place", "image_index"]).index
        return rows.loc[places].reset_index(drop=True)

    def report(self, width: float) -> Sequential:
        """Say what was reached, and what a design fixed in advance would have needed.

        ``fixed`` is planned without knowing the gap, ``fixed_knowing_the_gap`` with the one that was found.
        """
        found: dict[str, SequentialGap] = {}
        for name, sequence in self.sequences.items():
            low, high = sequence.interval
            sizes = len(self.plan.test), len(self.plan.space.classes[name]), width
            found[name] = SequentialGap(
                interval=(low, high),
                fixed=images_for_width(*sizes),
                fixed_knowing_the_gap=images_for_width(*sizes, gap=(low + high) / 2),
            )
        fixed, images = max(entry.fixed for entry in found.values()), len(self.rows)
        return Sequential(width=width, images=images, saved=fixed - images, attributes=found)

    def _fill(self, wanted: np.ndarray) -> None:
        """Generate and judge until every prompt has so many images with a face in store."""
        import pandas as pd

        while missing := {
            k: int(count) - len(self.unused[k])
            for k, count in enumerate(wanted)
            if count > len(self.unused[k])
        }:
            images = [self._image(k, self.made[k] + i) for k, count in missing.items() for i in range(count)]
            owners = np.repeat(list(missing), list(missing.values()))
            rows = pd.DataFrame(images)
            self.generate(rows)
            columns, _ = look(read_back(rows, self.place.path, self.read), [self.judge], [])
            face = shows_face(columns, self.judge.name)
            labels = {
                name: likeliest(columns, self.judge.name, name, classes)
                for name, classes in self.plan.space.classes.items()
            }
            for row, k in enumerate(owners):
                self.made[k] += 1
                self.faces[k] += face[row]
                if face[row]:
                    self.unused[k].append({name: int(values[row]) for name, values in labels.items()})
            self.rows += images
            for k in np.flatnonzero((self.made >= HOPELESS) & (self.faces == 0)):
                text = self.plan.test[k].text
                raise UserError(f"{self.made[k]} images of {text!r} show no face: leave it out of the suite")

    def _image(self, k: int, index: int) -> dict[str, Any]:
        plan = self.plan
        return planned_image(ORIGINAL, "original", plan.suite, plan.test[k], int(index), plan.config.seed)
