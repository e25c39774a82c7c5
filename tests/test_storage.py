import errno
import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fairbench import storage
from fairbench.errors import UserError


def failing(number):
    def fail(*_):
        raise OSError(number, os.strerror(number))

    return fail


def test_every_kind_of_file_comes_back_as_it_went(tmp_path):
    import pandas as pd
    import yaml
    from safetensors.torch import load_file

    storage.atomic_write_text(tmp_path / "a" / "b" / "text", "é\n")
    assert (tmp_path / "a" / "b" / "text").read_bytes() == "é\n".encode()

    content = {"b": [1, 2.5, None], "a": "é"}
    storage.atomic_write_json(tmp_path / "x.json", content)
    assert json.loads((tmp_path / "x.json").read_text()) == content
    storage.atomic_write_yaml(tmp_path / "x.yaml", content)
    assert yaml.safe_load((tmp_path / "x.yaml").read_text()) == content
    assert list(storage.read_yaml(tmp_path / "x.yaml")) == ["b", "a"]

    tensors = {"w": torch.arange(6.0).reshape(2, 3).T.requires_grad_()}
    storage.atomic_write_tensors(tmp_path / "x.safetensors", tensors, {"format": "pt"})
    assert torch.equal(load_file(tmp_path / "x.safetensors")["w"], tensors["w"])

    table = pd.DataFrame({"judge/face": [0.5, 1.0], "prompt": ["a", "b"]})
    storage.atomic_write_table(tmp_path / "x.parquet", table)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "x.parquet"), table)


def test_nan_is_no_json(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        storage.atomic_write_json(tmp_path / "x.json", {"bias": float("nan")})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.EIO])
def test_a_write_that_fails_half_way_leaves_the_old_file(tmp_path, monkeypatch, step, number):
    path = tmp_path / "file"
    storage.atomic_write_text(path, "old")
    monkeypatch.setattr(
        *{"fsync": (os, "fsync"), "replace": (storage.Path, "replace")}[step], failing(number)
    )
    with pytest.raises(OSError if number == errno.EIO else UserError) as caught:
        storage.atomic_write_text(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    assert "\n" not in str(caught.value)
    assert storage.is_full_disk(caught.value) == (number in {errno.ENOSPC, errno.EDQUOT})


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    def interrupt(_):
        raise KeyboardInterrupt

    path = tmp_path / "file"
    storage.atomic_write_text(path, "old")
    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        storage.atomic_write_text(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_new_file_can_be_read_by_others(tmp_path):
    storage.atomic_write_text(tmp_path / "file", "")
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o666 & ~umask


@pytest.mark.parametrize(
    ("number", "message"),
    [(errno.ENOSPC, "make space"), (errno.EACCES, "no permission to write"), (errno.ENOTDIR, "in its place")],
)
def test_an_error_of_the_disk_says_what_to_do(number, message):
    with pytest.raises(UserError, match=f"^runs/x: .*{message}"), storage.explained("runs/x"):
        failing(number)()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_device_is_reported():
    with pytest.raises(UserError, match="disk is full") as caught, storage.explained("runs/x"):
        Path("/dev/full").write_bytes(b"x")
    assert storage.is_full_disk(caught.value)
    assert not storage.is_full_disk(None)


def test_a_file_in_the_place_of_a_directory_is_reported(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="stands in its place"):
        storage.atomic_write_text(tmp_path / "file" / "x", "")
    with pytest.raises(UserError, match="stands in its place"), storage.lock(tmp_path / "file"):
        pass


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: [1", "not YAML: .* in line"),
        (b"a: 1\n\tb: 2", "not YAML"),
        (b"a: 2024-13-01", "not YAML"),
        (b"a: !!python/object/apply:os.getcwd []", "not YAML"),
        (b"\xff\xfe\x00", "not UTF-8"),
        (b"- a", "must hold keys"),
        (b"", "must hold keys"),
        (b"1: a", "must hold keys"),
    ],
)
def test_what_is_no_mapping_in_yaml_is_refused_in_one_line(tmp_path, content, message):
    path = tmp_path / "x.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        storage.read_yaml(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_missing_or_a_directory_is_refused(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        storage.read_yaml(tmp_path / "x.yaml")
    with pytest.raises(UserError, match="cannot be read"):
        storage.read_yaml(tmp_path)


@given(st.binary(max_size=1000))
def test_the_hash_of_a_file_is_the_hash_of_its_bytes(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("hash") / "x"
    path.write_bytes(data)
    assert storage.sha256_of(path) == storage.sha256_of(str(path)) == storage.sha256_of(data)


def test_the_hash_is_sha256():
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert storage.sha256_of(b"") == empty


def test_a_locked_directory_is_refused_and_free_again_after(tmp_path):
    with storage.lock(tmp_path / "run"):
        with pytest.raises(UserError, match="another run is writing"), storage.lock(tmp_path / "run"):
            pass
        code = "import sys; from fairbench.storage import lock\nwith lock(sys.argv[1]): pass"
        other = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "run")], capture_output=True, text=True
        )
        assert other.returncode != 0
        assert "another run is writing" in other.stderr
    with storage.lock(tmp_path / "run"):
        pass


@pytest.mark.parametrize("read", [storage.read_yaml, storage.read_json])
def test_only_regular_files_of_a_sensible_size_are_read(tmp_path, read, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match=r"pipe: cannot be read: .*it is no regular file"):
        read(tmp_path / "pipe")
    (tmp_path / "large").write_text("{a: 1}")
    monkeypatch.setattr(storage, "LARGEST_YAML", 5)
    monkeypatch.setattr(storage, "LARGEST_JSON", 5)
    with pytest.raises(UserError, match=r"large: cannot be read: .*more than 5 bytes"):
        read(tmp_path / "large")


def test_a_link_that_was_planted_is_replaced_or_refused_and_never_written_through(tmp_path):
    mine = tmp_path / "mine"
    mine.write_text("mine")
    place = tmp_path / "run"
    place.mkdir()
    for name in ("written", "appended", ".lock"):
        (place / name).symlink_to(mine)
    storage.atomic_write_text(place / "written", "new")
    assert (place / "written").read_text() == "new" and not (place / "written").is_symlink()
    with pytest.raises(UserError, match="stands in its place"):
        storage.append_text(place / "appended", "new")
    with pytest.raises(UserError, match="stands in its place"), storage.lock(place):
        pass
    assert mine.read_text() == "mine"


def test_removing_a_link_leaves_what_it_points_to(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for name in ("link", "dangling", "missing"):
        storage.remove(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"] and list((tmp_path / "mine").iterdir())


def test_what_a_kill_left_is_removed_and_a_link_is_named(tmp_path):
    images = tmp_path / "images" / "original"
    images.mkdir(parents=True)
    (tmp_path / "other").mkdir()
    for place in (tmp_path, images, tmp_path / "other"):
        (place / ".0.png.tmp").touch()
        (place / "0.png").touch()
    storage.tidy(tmp_path, ["images"])
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*")}
    assert left == {"0.png", "images/original/0.png", "other/0.png", "other/.0.png.tmp"}
    (images / "cook").symlink_to(tmp_path / "other")
    with pytest.raises(UserError, match="cook: is a link, and nothing is written through one"):
        storage.tidy(tmp_path, ["images"])
    storage.tidy(tmp_path, ["other"])


def test_a_directory_that_is_removed_while_it_is_held_is_not_made_anew(tmp_path):
    place = tmp_path / "run"
    with storage.lock(place):
        storage.atomic_write_text(place / "images" / "0", "")
        shutil.rmtree(place)
        for write in (storage.atomic_write_text, storage.append_text):
            with pytest.raises(UserError, match="was removed while it was written to"):
                write(place / "images" / "1", "")
        assert not place.exists()
        storage.atomic_write_text(tmp_path / "elsewhere", "")
    storage.atomic_write_text(place / "2", "")


def test_a_directory_is_there_whole_or_not_at_all(tmp_path):
    with pytest.raises(KeyboardInterrupt), storage.atomic_directory(tmp_path / "out") as directory:
        (directory / "file").touch()
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())
    (tmp_path / ".out.tmp").mkdir()
    (tmp_path / ".out.tmp" / "killed").touch()
    (tmp_path / "out").mkdir()
    with storage.atomic_directory(tmp_path / "out") as directory:
        (directory / "file").touch()
        assert not list((tmp_path / "out").iterdir())
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == ["out", "out/file"]


@pytest.mark.parametrize(
    "read", [storage.read_json, storage.read_yaml, storage.read_table, storage.read_tensors]
)
def test_every_reader_says_in_one_line_what_is_no_file_or_damaged(tmp_path, read):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")  # which would be waited for, as nobody writes to it
    (tmp_path / "damaged").write_bytes(b"\xff{[")
    for name in ("folder", "pipe", "damaged", "missing"):
        with pytest.raises(UserError, match=f"{name}: ") as caught:
            read(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_a_lock_waits_for_no_pipe(tmp_path):
    os.mkfifo(tmp_path / ".lock")
    with pytest.raises(UserError, match="stands in its place"), storage.lock(tmp_path):
        pass


@pytest.mark.parametrize("path", ["/proc/run", "x" * 300], ids=["/proc", "too long"])
def test_where_nothing_can_be_made_is_one_line(path):
    with pytest.raises(UserError, match="there can be no such file"), storage.lock(path):
        pass
