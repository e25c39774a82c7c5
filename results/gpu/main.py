"""The main job: `fairbench run --method biased_dft` on the embedded model, from the command to the result.

Seconds of the whole and of its stages, of an update and of its phases; memory; what came out.
"""

import subprocess
import sys
from argparse import Namespace
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import pandas as pd

from fairbench.runs.training import TrainingLog
from fairbench.store.layout import TRAINING_LOG, RunDirectory
from fairbench.store.load import load_run
from fairbench.store.results import VariantMetrics

SMALL = "prompts_per_update=1,images_per_prompt=2,steps=2,timesteps_per_update=1"
TINY = ("--updates", "2", "--test-prompts", "2", "--images-per-prompt", "2", "--steps", "2")


def measure(options: Namespace) -> Iterator[tuple[str, Any]]:
    """Run it, telling every second how far it has come."""
    with TemporaryDirectory() as place:
        run = Path(place) / "run"
        method = f"biased_dft[{SMALL}]" if options.tiny else "biased_dft"
        # -P: a checkout in the working directory is not what is installed
        command = [sys.executable, "-P", "-m", "fairbench", "run"]
        command += ["--method", method, "--out", str(run), "--json"]
        began = perf_counter()
        process = subprocess.Popen([*command, *(TINY if options.tiny else ())], stdout=subprocess.DEVNULL)  # noqa: S603 our own names
        try:
            while process.poll() is None:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(1)
                yield from so_far(run)
        finally:
            process.kill()
        seconds = perf_counter() - began
        if process.returncode:
            raise RuntimeError(f"fairbench run ended with code {process.returncode}")
        noted = RunDirectory(run).provenance()
        peaks = {kind: noted[f"{kind}memory_bytes"] for kind in ("peak_", "peak_gpu_")}
        memories = {f"{kind}gb": held and held / 1e9 for kind, held in peaks.items()}
        yield "whole", {"seconds": seconds, **memories}
        yield from so_far(run)
        for name, variant in load_run(run).metrics.variants.items():
            yield name, result(variant)


def so_far(run: Path) -> Iterator[tuple[str, Any]]:
    """Tell the seconds of the stages that are done, and those of an update."""
    place = RunDirectory(run)
    if seconds := place.provenance().seconds:
        yield "seconds by stage", seconds
    done = place / TRAINING_LOG
    log = pd.read_parquet(done) if done.is_file() else TrainingLog(place.training / "log.jsonl").table()
    if len(log):
        warm = log.iloc[len(log) // 10 :]  # the first ones are slower
        phases = warm.filter(like="seconds").mean().round(4).to_dict()
        yield "mean update", {"updates": len(log), **phases}


def result(variant: VariantMetrics) -> dict[str, Any]:
    """Return a variant's row of the table that a run prints, in short."""
    bias = variant.bias["gender"]
    quality = {key: variant.quality.value(key) for key in ("recognised", "clip_i")}
    return {"bias": bias.bias_mean, "interval": bias.interval, "floor": bias.floor, **quality}
