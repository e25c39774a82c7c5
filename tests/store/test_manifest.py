"""What a run made: whatever changes afterwards is named by whoever reads it, and by nobody else."""

import json
import os
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from fairbench.errors import UserError
from fairbench.runs.evaluate import evaluate_images
from fairbench.runs.generation import adopt
from fairbench.runs.run import run
from fairbench.scoring.score import score
from fairbench.storage import sha256_of
from fairbench.store.layout import FEATURES, IMAGES, MADE, METRICS, RECORDS, RunDirectory
from fairbench.store.load import load_adapter, load_run
from fairbench.store.manifest import check_made

WEIGHTS, PICTURE = "adapter/tensors.safetensors", "images/original/cook/0.png"


@pytest.fixture
def place(done, tmp_path):
    """A copy of a finished run."""
    return RunDirectory(shutil.copytree(done[0], tmp_path / "run"))


def flip(path, *, quietly=False):
    """Flip the last bit of a file; if quietly, size and time are as before."""
    status, content = path.stat(), bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    times = (status.st_atime_ns, status.st_mtime_ns if quietly else status.st_mtime_ns + 1)
    os.utime(path, ns=times)


def test_every_file_is_written_down_as_it_is(place):
    written = json.loads((place / "manifest.json").read_text())["files"]
    files = {path.relative_to(place.path).as_posix() for path in place.path.rglob("*") if path.is_file()}
    assert set(written) == files - {"manifest.json", "status.json", ".lock"}
    for name, file in written.items():
        status = (place / name).stat()
        assert file == {
            "sha256": sha256_of(place / name), "bytes": status.st_size, "modified": status.st_mtime_ns,
        }  # fmt: skip


def test_a_copy_with_other_times_and_a_run_without_images_are_as_they_were_made(place, small):
    for path in place.path.rglob("*"):
        os.utime(path, ns=(1, 1))
    check_made(place, (*MADE, IMAGES), verify=True)
    shutil.rmtree(place / "images")
    assert run(small.config(), place.path) == load_run(place.path).metrics


@pytest.mark.parametrize("name", [name for name in MADE if name not in ("reference.parquet", "adapter")])
def test_a_finished_run_that_lost_a_file_is_not_called_done(place, small, name):
    (place / name).unlink()
    with pytest.raises(UserError, match=rf"{name} is gone|holds files that are not of a run"):
        run(small.config(), place.path)


@pytest.mark.parametrize("name", [METRICS, FEATURES, RECORDS, WEIGHTS])
def test_a_flipped_bit_is_noticed_by_its_time_or_when_that_is_asked_for(place, small, name):
    flip(place / name, quietly=True)
    check_made(place, MADE)
    with pytest.raises(UserError, match=f"{name} has changed"):
        check_made(place, MADE, verify=True)
    os.utime(place / name, ns=(1, 1))
    with pytest.raises(UserError, match=f"{name} has changed"):
        run(small.config(), place.path)


def test_a_changed_digit_of_the_metrics_is_refused_and_scoring_makes_them_anew(place):
    path = place / METRICS
    made = path.read_bytes()
    path.write_bytes(re.sub(rb'("bias_mean": )\d', rb"\g<1>9", made, count=1))
    with pytest.raises(UserError, match=r"metrics\.json has changed: fairbench score .* computes it anew"):
        load_run(place.path)
    metrics = score(place.path)
    assert path.read_bytes() == made
    assert load_run(place.path, verify=True).metrics == metrics
    path.write_bytes(b"")
    assert score(place.path) == metrics and path.read_bytes() == made


def test_metrics_that_are_computed_otherwise_are_written_down(place, monkeypatch):
    kept = score(place.path)
    other = kept.model_copy(update={"notes": ["computed otherwise"]})
    monkeypatch.setattr("fairbench.scoring.score.score_directory", lambda *_: other)
    score(place.path)
    assert load_run(place.path, verify=True).metrics.notes == ["computed otherwise"]


def test_a_swapped_picture_is_not_judged_again_nor_taken_over(place, small, tmp_path):
    ours, other = place / PICTURE, place / "images/debiased/maid/1.png"
    for content in (other.read_bytes(), None):
        if content is None:
            Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(ours)
        else:
            ours.write_bytes(content)
        config = small.config(**load_run(place.path).config | {"images": str(place.path)})
        with pytest.raises(UserError, match=f"{PICTURE} has changed"):
            evaluate_images(config, tmp_path / "evaluation")
        rows = load_run(place.path).records
        with pytest.raises(UserError, match=f"{PICTURE} has changed"):
            adopt(rows[rows["variant"] == "original"], tmp_path / "next", [place.path])
    assert not (tmp_path / "evaluation").exists() and not (tmp_path / "next").exists()


def test_images_that_lie_elsewhere_are_known_by_what_they_hold(place, small, tmp_path):
    settings = load_run(place.path).config | {"images": str(place.path)}
    evaluate_images(small.config(**settings), tmp_path / "first")
    again = small.config(**settings | {"images": str(tmp_path / "first")})
    evaluate_images(again, tmp_path / "second")
    flipped = place / PICTURE
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(flipped)
    with pytest.raises(UserError, match="of other images than there are now"):
        evaluate_images(again, tmp_path / "third")


@pytest.mark.parametrize("image", ["/etc/passwd", "../other/0.png", "images/../../0.png"])
def test_records_that_name_images_outside_of_the_run_are_refused(place, image):
    from fairbench.storage import atomic_write_table
    from fairbench.store.manifest import note_made

    records = load_run(place.path).records
    records.loc[0, "image"] = image
    atomic_write_table(place / RECORDS, records)
    note_made(place, RECORDS)
    with pytest.raises(UserError, match=f"the image {image!r} does not lie in"):
        load_run(place.path)


def test_three_are_named_and_the_others_counted(place):
    for name in ("cook/0", "cook/1", "cook/2", "maid/0"):
        (place / f"images/original/{name}.png").unlink()
    with pytest.raises(UserError) as caught:
        check_made(place, [IMAGES])
    named = ", ".join(f"images/original/cook/{k}.png is gone" for k in range(3))
    assert f"{place.path} is not as it was made: {named}, 1 more: restore" in str(caught.value)
    check_made(place, MADE)


def test_what_the_run_did_not_make_is_not_read_as_its_own(place):
    shutil.copy(place / RECORDS, place / "reference.parquet")
    with pytest.raises(UserError, match=r"reference\.parquet is not of this run"):
        score(place.path)


def test_a_lost_manifest_is_missed_only_where_there_was_one(place):
    (place / "manifest.json").unlink()
    with pytest.raises(UserError, match=r"manifest\.json is gone"):
        load_run(place.path)
    noted = json.loads((place / "provenance.json").read_text())
    assert noted.pop("config_sha256") == sha256_of(place / "config.yaml")
    (place / "provenance.json").write_text(json.dumps(noted))
    flip(place / WEIGHTS)
    load_run(place.path)  # as of an earlier version, which wrote none
    load_adapter(place.adapter)


def test_a_new_run_may_not_lack_its_measurement(place):
    """Without one it was taken for a run of schema 1, and its metrics were overwritten."""
    for name in ("manifest.json", "measurement.json"):
        (place / name).unlink()
    noted = json.loads((place / "provenance.json").read_text())
    del noted["config_sha256"]
    (place / "provenance.json").write_text(json.dumps(noted))
    before = (place / METRICS).read_bytes()
    for read in (load_run, score):
        with pytest.raises(UserError, match=r"measurement\.json: "):
            read(place.path)
    assert (place / METRICS).read_bytes() == before and not (place / "measurement.json").exists()


@pytest.mark.parametrize("status", ["", "{}", "[]", '{"status": "begun"}'])
def test_a_run_is_done_when_its_status_says_so(place, status):
    (place / "status.json").write_text(status)
    assert not place.finished
    with pytest.raises(UserError, match="not a finished run"):
        load_run(place.path)


@pytest.mark.parametrize("lost", [False, True])
def test_half_the_settings_of_an_interrupted_run_are_not_taken_for_all(done, small, tmp_path, lost):
    shutil.copytree(done[0], tmp_path / "run")
    place = RunDirectory(tmp_path / "run")
    (place / "status.json").unlink()
    text = (place / "config.yaml").read_text()
    assert "steps: 2" in text.split("judges")[0]
    if lost:
        (place / "config.yaml").unlink()
    else:
        (place / "config.yaml").write_text(text.split("steps: 2")[0])
    place.check(small.config())  # the same settings: the file is written anew
    with pytest.raises(UserError, match=r"config\.yaml (is gone|has changed since the run began)"):
        place.check(small.config(steps=None))
    place.check(small.config(steps=None), fresh=True)
