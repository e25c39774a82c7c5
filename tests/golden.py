"""A small run, an evaluation of a folder, a matrix and a comparison: all that a user can have on disk.

`python -m tests.golden DIR` makes it, on one thread; `python -m tests.golden DIR OTHER` tells which files of
two such directories differ, apart from times and versions. tests/test_formats.py looks at it.
"""

import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import chdir, redirect_stdout
from io import StringIO
from pathlib import Path
from tempfile import gettempdir

import pandas as pd

VOLATILE = {"git", "packages", "python", "platform", "device", "threads", "seconds", "peak_memory_bytes"}
"""Keys of provenance that tell of the machine and the time."""
TIMED = {"provenance.json"}
"""Files of a run that tell of the machine and the time, so that a manifest tells of it, too."""
TIMES = re.compile(r'"training(_seconds| s)": [\d.]+')
"""What tells of time in other JSON files."""


def make(place: Path) -> None:
    """Run all of it in ``place`` with the small world of the tests."""
    import yaml

    from tests.runs.small import build

    with chdir(place):
        settings = build(Path("world")).settings(images_per_prompt=2)
        sys.path.insert(0, str(Path("world/plugin").resolve()))
        Path("one.yaml").write_text(yaml.safe_dump(settings))
        del settings["method"]
        matrix = {"methods": ["nudge", "original"], "attributes": ["gender", "race"], "settings": settings}
        Path("many.yaml").write_text(yaml.safe_dump(matrix))
        command("run", "--config", "one.yaml", "--out", "run")
        images = "run/images/original"
        command("evaluate", "--images", images, "--suite", "world/jobs.yaml", "--judge", "world/judge-a",
                "--features", "world/ssl", "--out", "evaluation")  # fmt: skip
        command("run", "--matrix", "many.yaml", "--out", "matrix")
        printed = command("compare", "run", "matrix/nudge-model-jobs-gender-s0", "--json")
        Path("comparison.json").write_text(printed)


def command(*arguments: str) -> str:
    """Call the command line, which must succeed, and return what it prints."""
    from fairbench.cli.main import main

    printed = StringIO()
    with redirect_stdout(printed):
        try:
            main(list(arguments))
        except SystemExit as left:
            if left.code:
                raise RuntimeError(f"{arguments}: exit {left.code}") from None
    return printed.getvalue()


def content(path: Path) -> bytes:
    """Return what a file holds, without what tells of the machine and the time."""
    data = path.read_bytes()
    if path.name == "provenance.json":
        noted = json.loads(data)
        return json.dumps({key: value for key, value in noted.items() if key not in VOLATILE}).encode()
    if path.name == "manifest.json":
        files = json.loads(data)["files"]
        return json.dumps(
            {name: file["sha256"] for name, file in files.items() if name not in TIMED}
        ).encode()
    if path.suffix == ".json":
        return TIMES.sub("", data.decode()).encode()
    if path.suffix == ".csv":
        return pd.read_csv(path).drop(columns="training_seconds").to_csv().encode()
    return data


def differing(one: Path, other: Path) -> Iterator[str]:
    """Name the files that only one of two directories has, or that differ."""
    for name in sorted({*names(one), *names(other)}):
        places = [place / name for place in (one, other)]
        if not all(path.is_file() for path in places) or content(places[0]) != content(places[1]):
            yield name


def names(place: Path) -> list[str]:
    """Return the files of ``place``, but for the world that it was made in."""
    files = (path.relative_to(place) for path in place.rglob("*") if path.is_file())
    return sorted(file.as_posix() for file in files if file.parts[0] != "world")


if __name__ == "__main__":
    os.environ.update(OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1", FAIRBENCH_CACHE="off")
    first, *second = map(Path, sys.argv[1:])
    if second:
        print("\n".join(differing(first, second[0])) or "the same")
    else:
        made = Path(gettempdir()) / "fairbench-golden"  # always there, because records name absolute paths
        made.mkdir()
        make(made)
        shutil.move(made, first)
