"""What a run, an evaluation, a matrix and a comparison leave on disk: file names, columns and keys.

They are relied on from outside. `python -m tests.test_formats` writes golden.json anew, for whoever changes
them on purpose.
"""

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import pytest
import yaml
from safetensors import safe_open

from tests.golden import make, names

GOLDEN = Path(__file__).with_name("golden.json")


def shape(value):
    """Return the keys of a value all the way down; of a list, that of its first entry."""
    if isinstance(value, dict):
        return {str(key): shape(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return type(value).__name__


def form(path):
    """Return what of a file is its form: columns and types, keys, names and sizes of tensors."""
    if path.suffix == ".parquet":
        return {str(name): str(kind) for name, kind in pd.read_parquet(path).dtypes.items()}
    if path.suffix == ".json":
        return shape(json.loads(path.read_text()))
    if path.suffix == ".yaml":
        return shape(yaml.safe_load(path.read_text()))
    if path.suffix == ".safetensors":
        with safe_open(path, "pt") as file:
            return {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118 not a mapping
    return path.suffix


def forms(place):
    """Return the form of every file; what tells of the machine is there or not as it will."""
    found = {name: form(place / name) for name in names(place)}
    for name, entry in found.items():
        if name.endswith("provenance.json"):
            entry["git"] = entry["packages"] = "of this machine"
            for file in entry["sha256"].values():
                if isinstance(file, dict):  # named after where they lie
                    file |= dict.fromkeys(file, "str")
    return json.loads(json.dumps(found))


@pytest.mark.slow
def test_files_columns_and_keys_are_those_that_others_rely_on(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    make(tmp_path)
    found, golden = forms(tmp_path), json.loads(GOLDEN.read_text())
    assert found.keys() == golden.keys()
    for name, entry in golden.items():
        assert found[name] == entry, name


if __name__ == "__main__":
    with TemporaryDirectory() as place:
        make(Path(place))
        lines = [f"{json.dumps(name)}: {json.dumps(entry)}" for name, entry in forms(Path(place)).items()]
        GOLDEN.write_text("{\n" + ",\n".join(lines) + "\n}\n")
