"""Measure the memory that finetuning takes: two updates of every method, each in a process of its own.

`python results/finetuning/memory.py` writes memory.csv. A matrix is one process: its peak is that of its
hungriest cell.
"""

import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from fairbench.config import spelled
from fairbench.runs.matrix import load_matrix
from fairbench.storage import atomic_write_text
from fairbench.store.layout import RunDirectory

HERE = Path(__file__).parent
SMALL = ("--updates", "2", "--test-prompts", "2", "--images-per-prompt", "2", "--json")


def main() -> None:
    """Write one row per method."""
    methods = {
        spelled(cell.config.method, {k: v for k, v in cell.config.method_options.items() if k != "updates"})
        for cell in load_matrix(HERE / "matrix.yaml", {})
    }
    rows = [{"method": method, "peak_gb": round(peak(method) / 1e9, 2)} for method in sorted(methods)]
    atomic_write_text(HERE / "memory.csv", pd.DataFrame(rows).to_csv(index=False))


def peak(method: str) -> int:
    """Return the most bytes that a whole run of two updates had resident; runs the command on the PATH."""
    with TemporaryDirectory() as place:
        run = Path(place) / "run"
        command = ["fairbench", "run", "--method", method, *SMALL, "--out", str(run)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)  # noqa: S603 our own names
        return RunDirectory(run).provenance().peak_memory_bytes


if __name__ == "__main__":
    main()
