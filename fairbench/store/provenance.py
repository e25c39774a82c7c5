"""Where a result comes from: the code, the packages, the machine and the exact model, judges and prompts."""

import platform
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from fairbench.records import ORIGINAL
from fairbench.store.results import Provenance

PACKAGES = (
    "fairbench-t2i", "torch", "diffusers", "transformers", "peft", "timm", "open_clip_torch", "torchmetrics",
    "POT", "numpy", "scipy", "pandas", "pyarrow", "pillow", "safetensors",
)  # fmt: skip

PEAKS = ("peak_memory_bytes", "peak_gpu_memory_bytes")


def describe_machine(device: str) -> dict[str, Any]:
    """Describe code and machine: git commit, package versions, python, platform, device and threads."""
    import torch

    return {
        "git": _git(Path(__file__).parent),
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else device,
        "threads": torch.get_num_threads(),
    }


def peak_memory(device: str, earlier: Provenance) -> dict[str, Any]:
    """Return the most bytes that this process has held at once, of its own memory and of its GPU's.

    Never less than ``earlier`` provenance says. That of a GPU counts from when portions were last tried out.
    """
    import torch

    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = {"peak_memory_bytes": resident if sys.platform == "darwin" else resident * 1024}
    if device.startswith("cuda"):
        found["peak_gpu_memory_bytes"] = torch.cuda.max_memory_allocated(device)
    before = {name: peak for name in PEAKS if (peak := earlier[name]) is not None}
    return {name: max(found.get(name, 0), before.get(name, 0)) for name in PEAKS if name in found | before}


@dataclass(frozen=True)
class Cost:
    """What a variant took.

    None where nobody counted: for images that fairbench did not make, and in runs of an earlier version.
    """

    unet_rows_per_image: float | None
    training_unet_rows: int | None
    training_seconds: float | None


def cost(provenance: Provenance, variant: str) -> Cost:
    """Return what a variant of a run took."""
    rows, trained = provenance.unet_rows, variant != ORIGINAL
    return Cost(
        unet_rows_per_image=rows.per_image.get(variant),
        training_unet_rows=rows.training if trained else None,
        training_seconds=provenance.seconds.get("finetuning") if trained else None,
    )


class Stopwatch:
    """Wall seconds per stage."""

    def __init__(self, seconds: dict[str, float] | None = None) -> None:
        self.seconds = dict(seconds or {})

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time spent inside to the stage ``name``, also when it is left by an error."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = round(self.seconds.get(name, 0.0) + time.perf_counter() - start, 3)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git(directory: Path) -> dict[str, Any] | None:
    """Return the commit the code runs from, ``None`` where it is not a checkout of its own."""

    def ask(*arguments: str) -> str:
        command = ["git", "-C", str(directory), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()  # noqa: S603

    try:
        if ask("ls-files", Path(__file__).name) == "":  # installed inside somebody else's repository
            return None
        return {"commit": ask("rev-parse", "HEAD"), "dirty": bool(ask("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None
