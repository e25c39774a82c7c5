"""Who is told how far a run is, and the one that tells nobody."""

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Told ``(stage, done, total)``."""


def nobody(stage: str, done: int, total: int) -> None:
    """Tell nobody."""
