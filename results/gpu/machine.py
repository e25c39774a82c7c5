"""What is measured with: the card, its driver, the versions of code and packages, the time.

It is asked in a process of its own, so that nothing holds memory of the card while the parts are measured.
"""

import shutil
import subprocess
from argparse import Namespace
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from fairbench.store.provenance import describe_machine


def measure(options: Namespace) -> Iterator[tuple[str, Any]]:
    """Tell the device that the parts are to use, and describe it."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    yield "device", device
    yield "card", card() if device == "cuda" else {"name": "cpu"}
    described = describe_machine(device)
    yield "packages", described["packages"]
    yield "system", {name: described[name] for name in ("python", "platform", "threads")}
    yield "commit", _said("git", ["-C", str(Path(__file__).parent), "rev-parse", "HEAD"])
    yield "time", datetime.now(UTC).isoformat(timespec="seconds")


def card() -> dict[str, Any]:
    """Describe the first card."""
    properties = torch.cuda.get_device_properties(0)
    return {
        "name": properties.name,
        "memory_gb": round(properties.total_memory / 1e9, 1),
        "capability": f"{properties.major}.{properties.minor}",
        "driver": _said("nvidia-smi", ["--query-gpu=driver_version", "--format=csv,noheader", "--id=0"]),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }


def _said(program: str, arguments: Sequence[str]) -> str | None:
    """Return what a program says; None where it is missing or fails."""
    found = shutil.which(program)
    if found is None:
        return None
    answer = subprocess.run([found, *arguments], capture_output=True, text=True, timeout=10)  # noqa: S603 our own names
    return answer.stdout.strip() if answer.returncode == 0 else None
