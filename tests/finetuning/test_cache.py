"""The cache: where it is, what it refuses, how large it grows, and several processes at once."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from fairbench.finetuning.cache import Cache, cache_directory

KEYS = [f"{number:064x}" for number in range(100)]


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("FAIRBENCH_CACHE", str(tmp_path))
    return tmp_path / "room"


@pytest.mark.parametrize(
    ("environment", "platform", "expected"),
    [
        ({"FAIRBENCH_CACHE": "/mine", "XDG_CACHE_HOME": "/x"}, "linux", "/mine"),
        ({"XDG_CACHE_HOME": "/x"}, "linux", "/x/fairbench"),
        ({"XDG_CACHE_HOME": ""}, "linux", "/home/me/.cache/fairbench"),
        ({}, "darwin", "/home/me/Library/Caches/fairbench"),
        ({"FAIRBENCH_CACHE": "off"}, "linux", None),
    ],
)
def test_where_it_is(monkeypatch, environment, platform, expected):
    for name in ("FAIRBENCH_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HOME": "/home/me", **environment}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", platform)
    assert cache_directory() == (None if expected is None else Path(expected))


def test_what_is_put_in_comes_out(place):
    tensors = {"a": torch.rand(3, 4), "b": torch.arange(6).reshape(2, 3).T, "c": torch.rand(2).half()}
    Cache("room").put(KEYS[0], tensors)
    found = Cache("room").get(KEYS[0])
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert torch.equal(found[name], tensor) and found[name].dtype == tensor.dtype
    assert Cache("room").get(KEYS[1]) is None and Cache("other").get(KEYS[0]) is None
    with safe_open(place / f"{KEYS[0]}.safetensors", "pt") as file:
        assert set(file.keys()) == {"a", "b", "c", "sha256"}


def test_what_was_not_used_for_longest_goes_first(place):
    one = {"a": torch.zeros(1000)}  # 4 kB
    cache = Cache("room", limit=50_000)
    for number, key in enumerate(KEYS):
        cache.put(key, one)
        os.utime(place / f"{key}.safetensors", (number, number))
        cache.get(KEYS[0])  # always in use
    kept = {path.stem for path in place.iterdir()}
    assert sum(path.stat().st_size for path in place.iterdir()) <= 50_000
    assert len(kept) >= 8 and KEYS[0] in kept and KEYS[-1] in kept and KEYS[1] not in kept


def test_files_of_others_are_left_alone(place):
    place.mkdir()
    (place / "mine.safetensors").write_bytes(bytes(10_000))
    cache = Cache("room", limit=1)
    cache.put(KEYS[0], {"a": torch.zeros(9)})
    assert [path.name for path in place.iterdir()] == ["mine.safetensors"]


def test_a_cache_that_cannot_be_used_is_done_without(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    for where in (tmp_path / "file", "/proc/nowhere", "off"):
        monkeypatch.setenv("FAIRBENCH_CACHE", str(where))
        cache = Cache("room")
        cache.put(KEYS[0], {"a": torch.zeros(1)})
        assert cache.get(KEYS[0]) is None


BUSY = """
import sys, torch
from fairbench.finetuning.cache import Cache
cache = Cache("room", limit=20_000)
for turn in range(60):
    key = f"{turn % 7:064x}"
    found = cache.get(key)
    assert found is None or torch.equal(found["a"], torch.full((1000,), float(turn % 7)))
    cache.put(key, {"a": torch.full((1000,), float(turn % 7))})
"""


@pytest.mark.slow
def test_two_processes_at_once(place):
    started = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(2)]
    assert [process.wait(timeout=500) for process in started] == [0, 0]
    kept = [path.stem for path in place.iterdir() if path.suffix == ".safetensors"]
    assert kept and len(kept) == len([*place.iterdir()])
    for key in kept:
        assert torch.equal(Cache("room").get(key)["a"], torch.full((1000,), float(int(key, 16))))
