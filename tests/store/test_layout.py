import os

import pytest

from fairbench.config import RunConfig
from fairbench.errors import UserError
from fairbench.storage import atomic_write_yaml
from fairbench.store.layout import RunDirectory, default_directory

CONFIG = RunConfig(method="original", images_per_prompt=4)


@pytest.fixture
def held(tmp_path):
    """A directory that holds a run of CONFIG."""
    atomic_write_yaml(tmp_path / "run" / "config.yaml", CONFIG.model_dump(mode="json"))
    (tmp_path / "run" / "provenance.json").write_text("{}")
    return RunDirectory(tmp_path / "run")


def test_a_new_or_empty_directory_will_do_and_nothing_is_written(tmp_path):
    RunDirectory(tmp_path).check(CONFIG)
    RunDirectory(tmp_path / "new" / "er").check(CONFIG)
    assert not list(tmp_path.iterdir())


def test_what_a_kill_leaves_before_the_settings_are_written_will_do(tmp_path):
    (tmp_path / ".lock").touch()
    (tmp_path / ".0123.tmp").touch()
    RunDirectory(tmp_path).check(CONFIG)
    (tmp_path / "provenance.json").write_text("{}")
    RunDirectory(tmp_path).check(CONFIG)


def test_the_same_run_goes_on_and_a_different_one_is_told_apart_by_its_settings(held):
    held.check(CONFIG)
    with pytest.raises(
        UserError, match=r"a different run .images_per_prompt is 4 there and 5 here.*--out.*--fresh"
    ):
        held.check(CONFIG.model_copy(update={"images_per_prompt": 5}))


def test_a_changed_option_is_named_by_itself(tmp_path):
    options = {"image_weight": 8, "learning_rate": 0.002, "rank": 8, "timesteps_per_update": 4}
    config = RunConfig(method_options=options)
    atomic_write_yaml(tmp_path / "config.yaml", config.model_dump(mode="json"))
    (tmp_path / "provenance.json").write_text("{}")
    changed = config.model_copy(update={"method_options": {**options, "rank": 16, "clip": 1}})
    with pytest.raises(UserError) as raised:
        RunDirectory(tmp_path).check(changed)
    said = "method_options.rank is 8 there and 16 here, method_options.clip is not set there and 1 here"
    assert f"({said})" in str(raised.value)


def test_fresh_replaces_a_run_and_leaves_what_is_not_of_it(held):
    (held / "notes.txt").write_text("mine")
    (held / "images" / "original").mkdir(parents=True)
    held.check(CONFIG.model_copy(update={"seed": 1}), fresh=True)
    held.clear()
    assert [path.name for path in held.path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("fresh", [False, True])
def test_other_files_are_never_touched_even_beside_a_settings_file(tmp_path, fresh):
    atomic_write_yaml(tmp_path / "config.yaml", CONFIG.model_dump(mode="json"))
    with pytest.raises(UserError, match="files that are not of a run"):
        RunDirectory(tmp_path).check(CONFIG, fresh=fresh)


def test_a_file_in_its_place(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="is a file"):
        RunDirectory(tmp_path / "file").check(CONFIG)
    with pytest.raises(UserError, match=r"no permission|is a file"):
        RunDirectory(tmp_path / "file" / "run").check(CONFIG)


def test_no_write_permission(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere
    with pytest.raises(UserError, match="no permission to write"):
        RunDirectory(tmp_path / "new").check(CONFIG)


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({}, "biased_dft-portraits-occupations-gender-s0"),
        ({"attributes": ("gender", "race"), "seed": 3}, "biased_dft-portraits-occupations-gender+race-s3"),
        (
            {"method": "original", "model": "portraits-renderer", "model_options": {"male": 0.5}},
            "original-portraits-renderer,male=0.5-occupations-gender-s0",
        ),
        ({"model": "runwayml/sd@ab12", "suite": "my/own.yaml"}, "biased_dft-sd-own-gender-s0"),
    ],
)
def test_the_default_directory_tells_runs_apart(settings, name):
    assert default_directory(RunConfig(**settings)).as_posix() == f"runs/{name}"


def test_a_long_name_is_cut_and_stays_one_of_its_own():
    long = [default_directory(RunConfig(model="é" * 300 + end)).name for end in "ab"]
    assert len(set(long)) == 2 and all(len(name.encode()) < 256 for name in long)
