"""Write the table of this folder: the original model, then every run given, each as its judge sees it.

`python results/joint/table.py RUN RUN ...` writes joint.csv and the table in README.md. The runs have the
same original images, of which the first tells.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fairbench.markdown import markdown_table, write_between_marks
from fairbench.records import ORIGINAL
from fairbench.report.tables import shown
from fairbench.storage import atomic_write_text
from fairbench.store.load import StoredRun, load_run
from fairbench.store.results import VariantMetrics

HERE = Path(__file__).parent
BIASES = ("gender", "race", "gender x race")
QUALITY = {"recognised": "recognised", "clip_t": "CLIP-T", "clip_i": "CLIP-I", "dino": "DINO"}


def main(runs: list[StoredRun]) -> None:
    """Write one row for the original model and one per run."""
    first = runs[0].metrics.variants[ORIGINAL]
    rows = [row("original", first)]
    for run in runs:
        method = run.config["method"]
        name = f"{method}: {' x '.join(run.config['attributes'])}"
        rows.append(row(name, run.metrics.variants[method]))
    table = pd.DataFrame(rows)
    atomic_write_text(HERE / "joint.csv", table.round(4).to_csv(index=False))
    floors = [f"{name} {first.bias[name].floor:.3f}" for name in BIASES]
    images = first.bias["gender"].per_prompt[0].images
    below = f"{len(first.bias['gender'].per_prompt)} occupations, {images} images each. "
    below += f"Noise floors: {', '.join(floors)}."
    write_between_marks(HERE / "README.md", f"{markdown(table)}\n\n{below}\n")


def row(name: str, variant: VariantMetrics) -> dict[str, Any]:
    """Return one row: means, and of what differs between occupations the standard deviation over these."""
    cells: dict[str, Any] = {"model": name}
    for attribute in BIASES:
        summary = variant.bias[attribute]
        low, high = summary.interval or (None, None)
        cells |= {f"{attribute} bias": summary.bias_mean, f"{attribute} sd": summary.bias_sd}
        cells |= {f"{attribute} low": low, f"{attribute} high": high}
    counts = [prompt.counts for prompt in variant.bias["age"].per_prompt]
    old = np.array([each["old"] / sum(each.values()) for each in counts if sum(each.values())])
    cells |= {"old": old.mean(), "old sd": old.std(ddof=1)}
    return cells | {key: variant.quality.value(key) for key in QUALITY}


def markdown(table: pd.DataFrame) -> str:
    """Lay the rows out as in the paper, with intervals."""
    head = ["balanced", *(f"{name} (95 %)" for name in BIASES), "share old", *QUALITY.values()]
    lines = []
    for _, each in table.iterrows():
        biases = [
            f"{each[f'{name} bias']:.2f} ± {each[f'{name} sd']:.2f} "
            f"({each[f'{name} low']:.2f}–{each[f'{name} high']:.2f})"
            for name in BIASES
        ]
        quality = [shown(each[key], ".3f") for key in QUALITY]
        lines.append([each["model"], *biases, f"{each['old']:.3f} ± {each['old sd']:.3f}", *quality])
    return markdown_table(head, lines)


if __name__ == "__main__":
    main([load_run(Path(argument)) for argument in sys.argv[1:]])
