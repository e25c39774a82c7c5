"""One directory at work: what is checked, what is written, and in which order."""

import shutil
from pathlib import Path

import pytest

from fairbench import storage
from fairbench.config import RunConfig, load_config
from fairbench.errors import UserError
from fairbench.runs.run import run
from fairbench.runs.session import Session, finished
from fairbench.scoring.judging import Instruments
from fairbench.storage import atomic_write_json
from fairbench.store.layout import RunDirectory
from fairbench.store.results import InputHashes, Provenance


def test_the_pictures_are_drawn_before_the_run_is_called_done(small, tmp_path):
    seen = []

    def paint(directory, records, training, metrics):
        seen.append((Path(directory), len(records), training, (Path(directory) / "status.json").exists()))

    run(small.config(method="original"), tmp_path / "run", paint=paint)
    assert seen == [(tmp_path / "run", 6, None, False)]


def nobody(stage, done, total):
    """Progress that nobody watches."""


EYES = Instruments(None, (), None, (), (), None)
"""Instruments for what is never looked at."""


def test_a_finished_run_gives_its_metrics_and_an_unfinished_or_fresh_one_nothing(done, small, tmp_path):
    place, config, asked = RunDirectory(done[0]), small.config(), []

    def made_of():
        asked.append(place.input_hashes)
        return place.input_hashes

    assert finished(place, config, made_of, fresh=False) == done[1]
    assert len(asked) == 1
    assert finished(place, config, made_of, fresh=True) is None
    assert finished(RunDirectory(tmp_path), config, made_of, fresh=False) is None
    assert len(asked) == 1  # files are hashed only where there is something to compare them with
    begun = RunDirectory(tmp_path / "begun")
    shutil.copytree(done[0], begun.path)
    (begun / "status.json").unlink()
    assert finished(begun, config, made_of, fresh=False) is None


def test_other_settings_and_other_files_are_refused_even_of_a_finished_run(done, small):
    place = RunDirectory(done[0])
    with pytest.raises(UserError, match=r"a different run \(seed is 0 there and 1 here\)"):
        finished(place, small.config(seed=1), lambda: place.input_hashes, fresh=False)
    with pytest.raises(UserError, match=r"made of other files \(suite\)"):
        finished(place, small.config(), lambda: InputHashes(suite="another"), fresh=False)


def test_what_another_process_wrote_meanwhile_is_not_overwritten(tmp_path):
    place, made_of = RunDirectory(tmp_path / "run"), InputHashes
    ours, theirs = RunConfig(seed=1), RunConfig(seed=2)
    assert finished(place, ours, made_of, fresh=False) is None
    with Session.open(place, theirs, made_of, EYES, nobody, fresh=False):
        pass
    before = (place / "config.yaml").read_bytes()
    with (
        pytest.raises(UserError, match="a different run"),
        Session.open(place, ours, made_of, EYES, nobody, fresh=False),
    ):
        pass
    assert (place / "config.yaml").read_bytes() == before
    with Session.open(place, ours, made_of, EYES, nobody, fresh=True):
        assert load_config(place / "config.yaml") == ours


def test_one_process_at_a_time_is_at_work_in_a_directory(tmp_path):
    place = RunDirectory(tmp_path / "run")
    with Session.open(place, RunConfig(), InputHashes, EYES, nobody, fresh=False):
        for fresh in (False, True):
            with (
                pytest.raises(UserError, match="another run is writing here"),
                Session.open(place, RunConfig(), InputHashes, EYES, nobody, fresh=fresh),
            ):
                pass
        assert (place / "config.yaml").is_file()


def test_times_rows_and_peaks_of_an_earlier_part_are_kept_until_a_fresh_start(tmp_path):
    place, config = RunDirectory(tmp_path / "run"), RunConfig()
    rows = {"per_image": {"original": 4.0}, "training": 7}
    earlier = Provenance(seconds={"finetuning": 60.0}, unet_rows=rows, peak_memory_bytes=10**15)
    atomic_write_json(place / "provenance.json", earlier.to_json())
    hashes = InputHashes(suite="s" * 64)
    with Session.open(place, config, lambda: hashes, EYES, nobody, fresh=False) as session:
        assert place.provenance().sha256 == hashes
        with session.stage("finetuning"):
            pass
        with pytest.raises(ZeroDivisionError), session.stage("judging"):
            raise ZeroDivisionError
    found = place.provenance()
    assert 60 <= found.seconds["finetuning"] < 61 and found.seconds["judging"] >= 0
    assert found.unet_rows.to_json() == rows and found.peak_memory_bytes == 10**15
    assert found.python and found.packages["torch"]
    with Session.open(place, config, lambda: hashes, EYES, nobody, fresh=True):
        found = place.provenance()
    assert (found.seconds, found.unet_rows.to_json()) == ({}, {})
    assert 0 < found.peak_memory_bytes < 10**15


def test_every_file_is_written_when_all_that_it_needs_is_there(small, tmp_path, monkeypatch):
    written, write = [], storage.atomic_write_bytes

    def noted(path, data):
        write(path, data)
        written.append(Path(path).name)

    monkeypatch.setattr(storage, "atomic_write_bytes", noted)
    config = small.config(method="original")
    run(config, tmp_path / "run", paint=lambda *_: written.append("pictures"))
    named = [name for name in dict.fromkeys(written) if name != "provenance.json"]
    assert named == [
        "config.yaml", "features.safetensors", "measurement.json", "records.parquet", "metrics.json",
        "pictures", "manifest.json", "status.json",
    ]  # fmt: skip
    assert written[0] == "provenance.json" and written[-1] == "status.json"


def test_images_are_judged_again_only_where_what_was_seen_or_measured_is_missing(done, small, tmp_path):
    place, told = tmp_path / "run", []
    shutil.copytree(done[0], place)
    for missing, again in (((), False), (("measurement.json",), True), (("records.parquet",), True)):
        for name in ("status.json", "metrics.json", *missing):
            (place / name).unlink()
        metrics = run(small.config(), place, progress=lambda stage, *_: told.append(stage))
        assert ("judging" in told) == again
        assert metrics.variants.keys() == done[1].variants.keys()
        assert (place / "status.json").is_file() and (place / "measurement.json").is_file()
        told.clear()
