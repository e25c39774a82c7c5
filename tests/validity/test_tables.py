"""The page of the proof says what is in its tables, and nothing else."""

import pandas as pd

from fairbench.validity.tables import page, write


def tables() -> dict[str, pd.DataFrame]:
    setting = {"classes": 2, "evaluations": 10, "truth": 0.3}
    estimates = [
        {"model": "lean", "images": 60, "number": "gap", "coverage": 0.95, "error": 0.001},
        {"model": "fair", "images": 60, "number": "gap", "coverage": 0.91, "error": 0.002},
        {"model": "one-sided", "images": 60, "number": "gap", "coverage": 1.0, "error": 0.0},
        {"model": "fair", "images": 60, "number": "gap corrected, signed", "error": -0.0042},
    ]
    rates = [
        {"model": "fair", "images": 60, "test": "changed", "effect": 0.0, "rejected": 0.08},
        {"model": "lean", "images": 60, "test": "changed", "effect": 0.0, "rejected": 0.05},
        {"model": "lean", "images": 60, "test": "changed", "effect": -0.1, "rejected": 0.625},
    ]
    return {
        "estimates": pd.DataFrame([setting | row for row in estimates]),
        "tests": pd.DataFrame([setting | row for row in rates]),
    }


def test_the_page() -> None:
    text = page(tables(), "fairbench validate")
    assert "```\nfairbench validate\n```" in text
    assert "| gap | 2 | 0.910 – 0.950 |" in text and "1 of 2 of these lie in 0.93 to 0.97" in text
    assert "0.0042" in text and "| changed | 2 | 0.050 – 0.080 |" in text
    assert "1 of 2 rows of `changed`" in text and "0.625" in text


def test_files(tmp_path) -> None:
    write(tmp_path / "v", tables(), "x")
    assert sorted(path.name for path in (tmp_path / "v").iterdir()) == [
        "README.md",
        "estimates.csv",
        "tests.csv",
    ]
    assert pd.read_csv(tmp_path / "v" / "tests.csv")["rejected"].tolist() == [0.08, 0.05, 0.625]
