"""Choose the settings of every method from what they did on the validation occupations.

`fairbench run --matrix results/portraits/search.yaml --out runs/search` tries them, and goes on where it
stopped; then `python results/portraits/search.py runs/search` writes search.csv and matrix.yaml.

The rule, fixed beforehand: the least noise-debiased gender gap among the settings of a method under which the
occupation is recognised in at least 95 % of the images of the original share; if there are none, the settings
under which it is recognised most. The first of equals is taken, which is the method's own default.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from fairbench.config import spelled
from fairbench.records import ORIGINAL
from fairbench.runs.matrix import Cell, load_matrix
from fairbench.storage import atomic_write_text, atomic_write_yaml
from fairbench.store.layout import RunDirectory
from fairbench.store.load import load_run

HERE = Path(__file__).parent
RECOGNISED = 0.95
"""Share of the original recognition that has to be left."""


def main(searched: Path) -> None:
    """Read the finished cells below ``searched`` and write what was found and chosen."""
    cells = load_matrix(HERE / "search.yaml", {})
    table = pd.DataFrame(row for cell in cells for row in results(cell, searched))
    table["keeps"] = table["recognised"] >= RECOGNISED * table.pop("of_original")
    best = {name: choose(rows) for name, rows in table.groupby("method", sort=False)}
    table["chosen"] = table.index.isin(best.values())
    atomic_write_text(HERE / "search.csv", table.round(4).to_csv(index=False))
    methods = dict.fromkeys(cell.config.method for cell in cells)
    chosen = [table.settings[best[name]] if name in best else name for name in methods]
    matrix = {"methods": chosen, "attributes": ["gender", "gender,race", "race"], "seeds": [0]}
    atomic_write_yaml(HERE / "matrix.yaml", matrix)
    print(f"{len(table)} of {len(cells)} cells are finished; wrote search.csv and matrix.yaml")


def results(cell: Cell, searched: Path) -> Iterator[dict[str, Any]]:
    """Yield the row of a cell, unless it is not finished; what trains the search short is no setting."""
    config, run = cell.config, searched / cell.name
    if not RunDirectory(run).finished:
        return
    variants = load_run(run).metrics.variants
    found, original = variants[config.method], variants[ORIGINAL]
    bias, quality = found.bias["gender"], found.quality
    options = {key: value for key, value in config.method_options.items() if key != "updates"}
    yield {
        "method": config.method,
        "settings": spelled(config.method, options),
        "search_updates": config.method_options.get("updates"),
        "gender_bias": bias.bias_mean,
        "gender_bias_debiased": bias.debiased,
        "recognised": quality.value("recognised"),
        "of_original": original.quality.value("recognised"),
        "clip_i": quality.value("clip_i"),
    }


def choose(rows: pd.DataFrame) -> Any:
    """Return the index of the settings to take."""
    kept = rows[rows["keeps"]]
    return kept["gender_bias_debiased"].idxmin() if len(kept) else rows["recognised"].idxmax()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
