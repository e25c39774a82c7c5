"""Measure one part in this process; what it has found is written after every step.

`python part.py NAME FILE` is what measure.py starts; NAME is a module beside it.
"""

import argparse
import math
import traceback
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from fairbench.storage import atomic_write_json

HERE = Path(__file__).parent
LONGEST = 300
"""Characters of an error."""


def main() -> None:
    """Run a module's ``measure``, which yields names, and facts or what is to be called for them."""
    options = _options()
    found: dict[str, Any] = {}
    try:
        for name, facts in import_module(options.name).measure(options):
            found[name] = plain(guarded(facts) if callable(facts) else facts)
            atomic_write_json(options.into, found)
    except Exception as error:  # whatever it is: the other parts go on
        atomic_write_json(options.into, found | {"error": told(error)})


def guarded(find: Callable[[], Any]) -> Any:
    """Return what is found, or the error: the next step may still work."""
    try:
        return find()
    except Exception as error:
        return {"error": told(error)}


def plain(facts: Any) -> Any:
    """Write numbers that JSON does not have as words: they are what a fault looks like."""
    if isinstance(facts, Mapping):
        return {name: plain(value) for name, value in facts.items()}
    if isinstance(facts, list | tuple):
        return [plain(value) for value in facts]
    return str(facts) if isinstance(facts, float) and not math.isfinite(facts) else facts


def told(error: Exception) -> str:
    """Print where an error comes from; return it in one line, with the last place in our own code."""
    traceback.print_exception(error)
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if Path(frame.filename).parent == HERE or "fairbench" in frame.filename]
    message = " ".join(str(error).split())[:LONGEST]
    return f"{type(error).__name__}: {message} ({Path(ours[-1].filename).name}:{ours[-1].lineno})"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("into", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--yunet", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
