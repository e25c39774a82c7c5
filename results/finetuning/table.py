"""Write the tables of this folder from the runs of its matrix, each method averaged over its seeds.

After `fairbench run --matrix results/finetuning/matrix.yaml --out runs/finetuning`,
`python results/finetuning/table.py runs/finetuning` adds these runs to runs.csv, and writes pairs.csv and the
table in README.md from all that is there; memory.csv, which memory.py measures, has to be there.
"""

import itertools
import sys
from pathlib import Path
from typing import Any

import pandas as pd
from scipy.stats import ttest_1samp

from fairbench.config import spelled
from fairbench.markdown import markdown_table, write_between_marks
from fairbench.metrics.intervals import mean_interval
from fairbench.metrics.significance import holm, sign_flip_test
from fairbench.records import ORIGINAL
from fairbench.report.tables import shown
from fairbench.storage import atomic_write_text
from fairbench.store.load import StoredRun, load_run
from fairbench.store.results import VariantMetrics

HERE = Path(__file__).parent
ATTRIBUTE = "gender"
QUALITY = {"recognised": "recognised", "clip_t": "CLIP-T", "clip_i": "CLIP-I", "dino": "DINO", "kid": "KID"}
PROMPT = "bias/"
"""Begins the names of the columns that hold the bias of one prompt."""


def main(runs: Path) -> None:
    """Read the finished runs below ``runs``; they take the place of those in runs.csv."""
    finished = [load_run(status.parent) for status in sorted(runs.glob("*/status.json"))]
    facts = pd.DataFrame([fact for run in finished for fact in facts_of(run)])
    if (HERE / "runs.csv").is_file():
        facts = pd.concat([facts, pd.read_csv(HERE / "runs.csv")])
    facts = facts.drop_duplicates(["method", "seed"])  # the original comes with every run
    facts = facts.sort_values(["method", "seed"], ignore_index=True)
    atomic_write_text(HERE / "runs.csv", facts.to_csv(index=False, float_format="%.5g"))
    seeds = set.intersection(*(set(rows["seed"]) for _, rows in facts.groupby("method")))
    shared = facts[facts["seed"].isin(seeds)]
    by_prompt = shared.groupby("method")[biases(facts)].mean().T
    atomic_write_text(HERE / "pairs.csv", pairs(by_prompt).to_csv(index=False, float_format="%.4f"))
    write_between_marks(HERE / "README.md", markdown(shared, by_prompt) + more_seeds(facts, len(seeds)))


def biases(facts: pd.DataFrame) -> list[str]:
    """Return the names of the columns that hold the bias of one prompt."""
    return [name for name in facts if name.startswith(PROMPT)]


def facts_of(run: StoredRun) -> list[dict[str, Any]]:
    """Return one row for the method of a run and one for its original."""
    options = {key: value for key, value in run.config["method_options"].items() if key != "updates"}
    name = spelled(run.config["method"], options)
    spent = {
        "updates": run.config["method_options"]["updates"],
        "training_rows": run.provenance.unet_rows.training,
        "training_seconds": run.provenance.seconds["finetuning"],
        "gaming_gap": run.metrics.gaming_gap[ATTRIBUTE].value,
    }
    variants = run.metrics.variants
    seed = {"seed": run.config["seed"]}
    return [
        {"method": ORIGINAL, **seed, **numbers(variants[ORIGINAL])},
        {"method": name, **seed, **numbers(variants[run.config["method"]]), **spent},
    ]


def numbers(variant: VariantMetrics) -> dict[str, Any]:
    """Return what was measured of one variant, and the bias of each prompt."""
    summary = variant.bias[ATTRIBUTE]
    quality = {key: variant.quality.value(key) for key in QUALITY}
    return {
        "bias_mean": summary.bias_mean,
        "floor": summary.floor,
        "debiased": summary.debiased,
        **quality,
        **{PROMPT + row.prompt_id: row.bias for row in summary.per_prompt},
    }


def pairs(by_prompt: pd.DataFrame) -> pd.DataFrame:
    """Test every pair of methods, prompt by prompt, each prompt's bias averaged over the seeds."""
    couples = list(itertools.combinations(by_prompt, 2))
    changes = [by_prompt[other] - by_prompt[one] for one, other in couples]
    tests = pd.DataFrame(couples, columns=["first", "second"])
    tests["difference"] = [change.mean() for change in changes]
    tests["p_value"] = [float(sign_flip_test(change.to_numpy())) for change in changes]
    return tests.assign(p_holm=holm(tests["p_value"]))


def more_seeds(facts: pd.DataFrame, common: int) -> str:
    """Lay out the pairs of methods that have more seeds than the others, compared on all that they share."""
    runs = {name: rows.set_index("seed")[biases(facts)] for name, rows in facts.groupby("method")}
    runs = {name: rows for name, rows in runs.items() if len(rows) > common and name != ORIGINAL}
    head = ["difference in bias", "by seed", "mean", "p over occupations", "p over trainings"]
    lines = []
    for one, other in itertools.combinations(runs, 2):
        change = (runs[other] - runs[one]).dropna()
        by_seed = change.mean(axis=1)
        cells = [f"{one} to {other}", " ".join(f"{value:+.3f}" for value in by_seed)]
        cells += [f"{by_seed.mean():+.3f}", f"{float(sign_flip_test(change.mean().to_numpy())):.3f}"]
        lines.append([*cells, f"{ttest_1samp(by_seed, 0).pvalue:.3f}"])
    return f"\n{markdown_table(head, lines)}\n" if lines else ""


def markdown(facts: pd.DataFrame, by_prompt: pd.DataFrame) -> str:
    """Lay out one row per method, the least biased first."""
    head = ["method", "updates", f"{ATTRIBUTE} bias (95 %)", "by seed", "rms, no noise", *QUALITY.values()]
    head += ["gaming gap", "s", "peak GB"]
    memory = pd.read_csv(HERE / "memory.csv", index_col="method")["peak_gb"]
    lines = []
    for name in by_prompt.mean().sort_values().index:
        mine = facts[facts["method"] == name].sort_values("seed")
        mean = mine.mean(numeric_only=True)
        low, high = mean_interval(by_prompt[name]) or (float("nan"), float("nan"))
        cells = [name, shown(mean["updates"], ".0f"), f"{mean['bias_mean']:.3f} ({low:.2f}–{high:.2f})"]
        cells += [" ".join(f"{value:.2f}" for value in mine["bias_mean"]), shown(mean["debiased"], ".3f")]
        cells += [shown(mean[key], ".3f") for key in QUALITY]
        cells += [shown(mean["gaming_gap"], "+.3f"), shown(mean["training_seconds"], ".0f")]
        lines.append([*cells, shown(memory.get(name), ".2f")])
    return f"{markdown_table(head, lines)}\n\nNoise floor of every row: {facts['floor'].mean():.3f}.\n"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
