"""What can happen to the files of a run, and which command reads which of them."""

import json

import pandas as pd
import yaml
from safetensors.torch import load_file, save_file

EVERYWHERE = ("run", "evaluate", "score", "export", "compare", "check", "show", "plan")
LOADED = tuple(command for command in EVERYWHERE if command != "score")
READ_BY = {
    "config.yaml": EVERYWHERE,
    "provenance.json": EVERYWHERE,
    "records.parquet": EVERYWHERE,
    "measurement.json": EVERYWHERE,
    "manifest.json": EVERYWHERE,
    "metrics.json": LOADED,
    "status.json": EVERYWHERE[1:],
    "features.safetensors": ("run", "score"),
    "training.parquet": ("run", "score"),
    "adapter/intervention.json": ("run", "export"),
    "adapter/tensors.safetensors": ("run", "export"),
    "images/original/cook/0.png": ("evaluate",),
}
"""File of a finished run -> the commands that must refuse it when it is damaged; all others do their work."""


def commands(place, run, other, small):
    """Command lines that read the directory ``run``; what they write goes into ``place``."""
    settings = place / "settings.yaml"
    settings.write_text(yaml.safe_dump(json.loads(json.dumps(small.settings()))))
    lines = {
        "run": ("run", "--config", settings, "--out", run),
        "evaluate": ("evaluate", run, "--judge", small.root / "judge-b", "--out", place / "evaluation"),
        "score": ("score", run),
        "export": ("export", run, "--to", place / "exported"),
        "compare": ("compare", run, "--out", place / "comparison"),
        "check": ("check", run, "--against", other),
        "show": ("show", run),
        "plan": ("plan", "--detect", "0.2", "--pilot", run),
    }
    assert tuple(lines) == EVERYWHERE
    return lines


def empty(path):
    path.write_bytes(b"")


def truncated(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def braces(path):
    path.write_text("{}")


def brackets(path):
    path.write_text("[]")


def folder(path):
    path.unlink()
    path.mkdir()


def newer(path):
    """A schema that is newer, and a text where a number should be."""
    if path.suffix != ".json":
        return truncated(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema_version": "4"}))
    return None


def other_types(path):
    if path.suffix == ".json":
        path.write_text(json.dumps({key: [["x"]] for key in json.loads(path.read_text())}))
    elif path.suffix == ".yaml":
        path.write_text(yaml.safe_dump({key: [["x"]] for key in yaml.safe_load(path.read_text())}))
    elif path.suffix == ".parquet":
        table = pd.read_parquet(path)
        pd.DataFrame({name: ["x"] * len(table) for name in table}).to_parquet(path)
    elif path.suffix == ".safetensors":
        save_file({name: tensor.bool().flatten() for name, tensor in load_file(path).items()}, path)
    else:
        path.write_text("x")


DAMAGES = (empty, truncated, braces, brackets, folder, newer, other_types)
