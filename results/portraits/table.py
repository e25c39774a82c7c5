"""Write the tables and pictures of this folder from the runs of its matrix.

`python results/portraits/table.py runs/portraits runs/explicit` writes a CSV file, a picture, and a table in
README.md for every set of attributes that was balanced. The second directory has, under the same names, what
each run does to prompts that name a class.
"""

import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from fairbench.attributes import ATTRIBUTES
from fairbench.comparison.compare import compare
from fairbench.config import spelled
from fairbench.markdown import markdown_table, write_between_marks
from fairbench.report.comparison import comparison_frame, cost
from fairbench.report.pareto import pareto
from fairbench.report.tables import ABSENT, FAIR, shown
from fairbench.runs.matrix import load_matrix
from fairbench.storage import atomic_write_text
from fairbench.store.layout import RunDirectory
from fairbench.store.load import StoredRun, load_run
from fairbench.store.results import ComparedBias, Comparison

HERE = Path(__file__).parent
QUALITY = {"recognised": "recognised", "clip_t": "CLIP-T", "clip_i": "CLIP-I", "dino": "DINO"}


def main(matrix: Path, explicit: Path) -> None:
    """Read the finished cells below ``matrix``, and what is known of them below ``explicit``."""
    groups: dict[tuple[str, ...], list[StoredRun]] = {}
    missing: dict[tuple[str, ...], list[str]] = {}
    for cell in load_matrix(HERE / "matrix.yaml", {}):
        config, run = cell.config, matrix / cell.name
        if RunDirectory(run).finished:
            groups.setdefault(config.attributes, []).append(load_run(run))
        else:
            missing.setdefault(config.attributes, []).append(spelled(config.method, config.method_options))
    compared = {asked: runs for asked, runs in groups.items() if len(runs) > 1}
    text = "\n".join(section(asked, runs, explicit) for asked, runs in compared.items())
    for asked, names in missing.items():
        text += f"\nNot measured for {' x '.join(asked)}: {', '.join(names)}.\n"
    write_between_marks(HERE / "README.md", text)


def section(asked: Sequence[str], runs: Sequence[StoredRun], explicit: Path) -> str:
    """Write the CSV file and the picture of runs that balanced the same, and return their table."""
    balanced = runs[0].metrics.balanced
    others = [name for name in ATTRIBUTES if name not in asked]
    found = compare(runs, attributes=",".join([*balanced, *others]))
    stem = "-".join(asked)
    atomic_write_text(HERE / f"{stem}.csv", comparison_frame(found).drop(columns="path").to_csv(index=False))
    picture = pareto([run.metrics for run in runs], HERE / f"{stem}.png", attribute=balanced[-1])
    obeyed = {run.label: obedience(explicit / Path(run.path).name, asked) for run in found.runs}
    table = markdown(found, balanced, others, obeyed)
    return f"## {balanced[-1]}\n\n{table}\n\n![bias against semantic change]({picture.name})\n"


def obedience(evaluated: Path, asked: Sequence[str]) -> str:
    """Return the share of pictures that show the class their prompt names, for every balanced attribute."""
    if not RunDirectory(evaluated).finished:
        return ABSENT
    *_, last = load_run(evaluated).metrics.variants.values()
    return " / ".join(f"{last.obedience[name].mean:.2f}" for name in asked)


def markdown(
    found: Comparison, balanced: Sequence[str], others: Sequence[str], obeyed: Mapping[str, str]
) -> str:
    """Lay out one row per run, the least biased first."""
    rows = {name: {row.label: row for row in found.attributes[name]} for name in (*balanced, *others)}
    floors = {name: next(iter(labelled.values())).floor for name, labelled in rows.items()}
    head = [
        "method",
        "draw class",
        *(f"{name}: bias ± sd (95 %), floor {floors[name]:.2f}" for name in balanced),
    ]
    head += [*QUALITY.values(), "KID", "obeys", *others, "U-Net rows", "training"]
    order = sorted(found.runs, key=lambda run: rows[balanced[-1]][run.label].rank)
    lines = []
    for run in order:
        label = run.label
        means = [_quality(found, key, label) for key in QUALITY]
        spilt = [f"{rows[name][label].bias_mean:.2f}" for name in others]
        biases = [_bias(rows[name][label]) for name in balanced]
        kid = shown(run.kid, ".4f")
        cells = [run.name, run.draw_class, *biases, *means, kid, obeyed[label], *spilt, *cost(run)]
        lines.append(cells)
    return markdown_table(head, lines)


def _bias(row: ComparedBias) -> str:
    low, high = row.interval or (math.nan, math.nan)
    mark = f"{FAIR} " if row.fair else ""
    return f"{mark}{row.bias_mean:.2f} ± {row.bias_sd:.2f} ({low:.2f}–{high:.2f})"


def _quality(found: Comparison, key: str, label: str) -> str:
    means = [row.mean for row in found.quality.get(key, ()) if row.label == label]
    return shown(means[0] if means else None, ".3f")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
