"""Measure and remove demographic bias in text-to-image diffusion models.

Importing this package loads nothing heavy; the rooms below it import torch and diffusers when they are used.
"""


def __getattr__(name: str) -> str:
    """Answer ``fairbench.__version__`` from the installed distribution, only when somebody asks."""
    if name == "__version__":
        from importlib.metadata import version

        return version("fairbench-t2i")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
