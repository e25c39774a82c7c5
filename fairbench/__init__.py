"""Measure and remove demographic bias in text-to-image diffusion models.

Importing this package loads nothing heavy; the rooms below it import torch and diffusers when they are used.
"""

from typing import Any


def __getattr__(name: str) -> Any:
    """Answer ``fairbench.__version__`` and ``fairbench.evaluate``, only when somebody asks."""
    if name == "evaluate":
        from fairbench.runs.evaluate import evaluate

        return evaluate
    if name == "__version__":
        from importlib.metadata import version

        return version("fairbench-t2i")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
