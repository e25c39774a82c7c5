"""What the proof found, as files: three tables, and a page that says how many rows are as they should be."""

from pathlib import Path

import pandas as pd

from fairbench.markdown import markdown_table
from fairbench.storage import atomic_write_text

COVERAGE, LEVEL = (0.93, 0.97), (0.03, 0.07)
"""Where the coverage of a 95 % interval and the type-I rate of a 5 % test should lie."""


def write(directory: Path, tables: dict[str, pd.DataFrame], command: str) -> None:
    """Write ``{name}.csv`` for each table, and README.md from the same numbers."""
    for name, table in tables.items():
        atomic_write_text(directory / f"{name}.csv", table.round(4).to_csv(index=False))
    atomic_write_text(directory / "README.md", page(tables, command))


def page(tables: dict[str, pd.DataFrame], command: str) -> str:
    """Return the page, in Markdown."""
    parts = [
        "# Validity",
        "Models and judges whose probabilities are known, through every estimator, interval and test. "
        "What the numbers estimate is in [docs/estimators.md](../../docs/estimators.md). Written by",
        f"```\n{command}\n```",
    ]
    if "estimates" in tables:
        parts += _estimates(tables["estimates"])
    if "tests" in tables:
        parts += _tests(tables["tests"])
    if "pictures" in tables:
        parts += _pictures(tables["pictures"])
    return "\n\n".join(parts) + "\n"


def _estimates(table: pd.DataFrame) -> list[str]:
    """Coverage of every interval, and the mean error of the corrected gap."""
    judged = table.dropna(subset="coverage")
    inner = judged[judged["model"] != "one-sided"]
    corrected = table[table["number"] == "gap corrected, signed"]
    most = int(table["images"].max())
    return [
        f"## Intervals: `estimates.csv`, {int(table['evaluations'].max())} evaluations of 50 prompts per row",
        "Share of 95 % intervals that hold the truth, from the lowest to the highest over the models "
        "(without the one-sided one: where all images are alike, an interval is always right).",
        _markdown(_ranges(inner, "coverage", ["number", "classes", "images"])),
        f"{_within(inner[inner['number'] != 'gap read by a judge'], 'coverage', COVERAGE)} of these lie in "
        f"{COVERAGE[0]:.2f} to {COVERAGE[1]:.2f}. A gap read by a judge whose errors nobody takes back is "
        "left out: it is shown to warn, and no number of images repairs it.",
        f"## Mean error of the gap at n = {most}, judge errors .02 and .08",
        _markdown(
            table[(table["images"] == most) & table["number"].str.startswith("gap")].pivot_table(
                index=["classes", "model", "truth"], columns="number", values="error", sort=False
            )
        ),
        f"Largest of `gap corrected, signed` at n = {most}: "
        f"{corrected[corrected['images'] == most]['error'].abs().max():.4f}. Without `signed`, an estimate "
        "below 0 is shown as 0, which is the better number to read and the worse one to average.",
    ]


def _tests(table: pd.DataFrame) -> list[str]:
    """Type-I rate and power of every test."""
    nothing = table[(table["effect"] == 0) & (table["model"] != "one-sided")]
    something = table[table["effect"] != 0]
    return [
        "## Tests: `tests.csv`, level .05",
        "Share rejected where there is nothing to find (type-I rate), lowest to highest over the models:",
        _markdown(_ranges(nothing, "rejected", ["test", "classes", "images"])),
        f"{_within(nothing[nothing['test'] == 'changed'], 'rejected', LEVEL)} rows of `changed` lie in "
        f"{LEVEL[0]:.2f} to {LEVEL[1]:.2f}. And where there is something (power):",
        _markdown(
            something.assign(row=something["test"] + ", K = " + something["classes"].astype(str)).pivot_table(
                index="row", columns=["model", "images"], values="rejected", sort=False
            )
        ),
    ]


def _pictures(table: pd.DataFrame) -> list[str]:
    """Every row, as there are few."""
    return [
        "## Pictures: `pictures.csv`",
        "Drawn by the renderer as told, judged by a shipped judge, summarised from its records; once more "
        "with answers changed at rates .02 and .08. The confusion matrix is counted on other pictures.",
        _markdown(table.drop(columns=["classes", "holds"]).set_index("model")),
        f"{int(table['holds'].sum())} of {len(table)} intervals hold the truth.",
    ]


def _ranges(table: pd.DataFrame, column: str, by: list[str]) -> pd.DataFrame:
    found = table.groupby(by, sort=False)[column].agg(["min", "max"])
    text = found["min"].map("{:.3f}".format) + " – " + found["max"].map("{:.3f}".format)
    return text.unstack(by[-1]).rename(columns=lambda images: f"n = {images}")


def _within(table: pd.DataFrame, column: str, limits: tuple[float, float]) -> str:
    return f"{int(table[column].between(*limits).sum())} of {len(table)}"


def _markdown(table: pd.DataFrame) -> str:
    """Write a table with its index as Markdown, numbers to three places."""
    table = table.reset_index()
    names = [name if isinstance(name, tuple) else (name,) for name in table]
    heads = [" ".join(str(part) for part in name if part != "") for name in names]
    rows = [[_cell(cell) for cell in row] for row in table.itertuples(index=False)]
    return markdown_table(heads, rows)


def _cell(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
