import errno
import json
import os

import pandas as pd
import pytest
import yaml
from PIL import Image

from fairbench.errors import UserError
from fairbench.intervention_files import load_intervention
from fairbench.models.text_to_image import TextToImage
from fairbench.runs import run as runner
from fairbench.runs.run import run
from fairbench.storage import is_full_disk
from fairbench.store.layout import default_directory


def pictures(directory):
    return {path.relative_to(directory): path.read_bytes() for path in sorted(directory.rglob("*.png"))}


def test_a_run_leaves_everything_that_belongs_to_it_and_nothing_half_written(done, built):
    out, metrics, _ = done
    assert {path.name for path in out.iterdir()} == {
        ".lock", "config.yaml", "provenance.json", "records.parquet", "features.safetensors", "metrics.json",
        "measurement.json", "training.parquet", "adapter", "images", "manifest.json", "status.json",
    }  # fmt: skip
    assert not list(out.rglob("*.tmp"))
    assert yaml.safe_load((out / "config.yaml").read_text()) == built.config().model_dump(mode="json")
    assert json.loads((out / "metrics.json").read_text()) == metrics.to_json()
    assert (metrics["schema_version"], metrics["method"]) == (3, "nudge")
    assert json.loads((out / "status.json").read_text())["status"] == "finished"
    assert list(pd.read_parquet(out / "training.parquet")["update"]) == [1, 2, 3]
    assert len(pictures(out)) == 2 * 2 * 3


def test_the_metrics_are_those_of_the_records(done):
    out, metrics, _ = done
    records = pd.read_parquet(out / "records.parquet")
    assert list(metrics["variants"]) == ["original", "nudge"]
    assert metrics["evaluation_judges"] == ["judge-a", "judge-b"]
    for name, entry in metrics["variants"].items():
        assert set(entry["bias"]) == {"gender", "race", "gender x race"}
        assert set(entry["judges"]) == {"judge-a", "judge-b", "judge-train"}
        rows = records[(records["variant"] == name) & (records["judge-a/face"] >= 0.5)]
        male = (rows["judge-a/gender/male"] > 0.5).groupby(rows["prompt_id"]).mean()
        mean = entry["bias"]["gender"]["bias_mean"]
        assert mean is None if rows.empty else mean == pytest.approx((2 * male - 1).abs().mean())
    assert set(metrics["paired"]) == set(metrics["gaming_gap"]) == {"gender", "race", "gender x race"}


def test_provenance_names_code_machine_networks_times_and_memory(done):
    provenance = json.loads((done[0] / "provenance.json").read_text())
    assert {"original images", "finetuning", "debiased images", "judging", "metrics"} <= set(
        provenance["seconds"]
    )
    assert provenance["packages"]["torch"] and provenance["threads"] >= 1
    assert provenance["peak_memory_bytes"] > 50e6
    hashes = [
        value
        for group in provenance["sha256"].values()
        if isinstance(group, dict)
        for value in group.values()
    ]
    assert len(hashes) == 7 and all(len(value) == 64 for value in hashes)


def test_the_rows_of_the_unet_are_counted_per_image(done):
    """Two steps with guidance are four rows; the method fits without the U-Net."""
    counted = json.loads((done[0] / "provenance.json").read_text())["unet_rows"]
    assert counted == {"training": 0, "per_image": {"original": 4, "nudge": 4}}


def test_on_the_validation_prompts_nothing_of_the_test_is_seen(small, tmp_path):
    config = small.config(split="validation", updates=1)
    metrics = run(config, tmp_path / "run")
    records = pd.read_parquet(tmp_path / "run" / "records.parquet")
    assert set(records["concept"]) == {"dj"} and default_directory(config).name.endswith(
        "-validation-gender-s0"
    )
    assert metrics["variants"]["nudge"]["bias"]["gender"]["prompts"] == 1


def test_progress_goes_from_nothing_to_all(done):
    for stage in ("original images", "finetuning", "debiased images", "judging"):
        steps = [(now, total) for name, now, total in done[2] if name == stage]
        assert steps[0][0] == 0 and steps[-1][0] == steps[-1][1]


def test_a_finished_run_is_not_run_again(done, built, monkeypatch):
    monkeypatch.setattr(runner, "load_instruments", None)
    monkeypatch.syspath_prepend(built.root / "plugin")
    before = {path: path.stat().st_mtime_ns for path in done[0].rglob("*")}
    assert run(built.config(), done[0]) == done[1]
    assert before == {path: path.stat().st_mtime_ns for path in done[0].rglob("*")}


def rounded(value):
    """Allow for how threads share a sum: the images are the same bits, the features not always."""
    if isinstance(value, dict):
        return {key: rounded(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [rounded(entry) for entry in value]
    return pytest.approx(value, rel=1e-4, abs=1e-5) if isinstance(value, float) else value


def interrupt_at(stage, count):
    def progress(name, now, total):
        if (name, now) == (stage, count):
            raise KeyboardInterrupt

    return progress


@pytest.mark.parametrize(
    ("stage", "count"), [("original images", 2), ("finetuning", 2), ("debiased images", 4), ("judging", 6)]
)
def test_an_interrupted_run_goes_on_and_ends_the_same(done, small, tmp_path, monkeypatch, stage, count):
    monkeypatch.setattr(TextToImage, "images_at_once", 2)
    with pytest.raises(KeyboardInterrupt):
        run(small.config(), tmp_path / "run", progress=interrupt_at(stage, count))
    assert not (tmp_path / "run" / "status.json").exists()
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*.png")}
    metrics = run(small.config(), tmp_path / "run")
    assert all(path.stat().st_mtime_ns == time for path, time in made.items())
    assert pictures(tmp_path / "run") == pictures(done[0])
    assert metrics.to_json() == rounded(done[1].to_json())
    assert list(pd.read_parquet(tmp_path / "run" / "training.parquet")["update"]) == [1, 2, 3]


def test_an_image_that_a_kill_left_half_is_made_again(done, small, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(small.config(), tmp_path / "run", progress=interrupt_at("finetuning", 0))
    torn, empty = sorted((tmp_path / "run").rglob("*.png"))[:2]
    torn.write_bytes(torn.read_bytes()[:-40])
    empty.write_bytes(b"")
    run(small.config(), tmp_path / "run")
    assert pictures(tmp_path / "run") == pictures(done[0])


def test_a_full_disk_stops_the_run_which_goes_on_after_space_is_made(done, small, tmp_path, monkeypatch):
    real = Image.Image.save

    def full(image, path, *rest, **more):
        if len(list((tmp_path / "run").rglob("*.png"))) >= 4:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(image, path, *rest, **more)

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(UserError, match="disk is full") as caught:
        run(small.config(), tmp_path / "run")
    assert is_full_disk(caught.value)
    monkeypatch.setattr(Image.Image, "save", real)
    assert run(small.config(), tmp_path / "run").to_json() == rounded(done[1].to_json())


def test_fresh_begins_anew(small, tmp_path):
    run(small.config(method="original"), tmp_path / "run")
    metrics = run(small.config(method="original", seed=1), tmp_path / "run", fresh=True)
    other = run(small.config(method="original", seed=1), tmp_path / "other")
    assert metrics.to_json() == rounded(other.to_json())
    assert pictures(tmp_path / "run") == pictures(tmp_path / "other")


def test_the_original_alone_has_one_variant_and_needs_no_training_judge(small, tmp_path):
    config = small.config(method="original", training_judge=None, training_features=[])
    metrics = run(config, tmp_path / "run")
    assert list(metrics["variants"]) == ["original"]
    assert metrics["paired"] == metrics["gaming_gap"] == {}
    assert not (tmp_path / "run" / "adapter").exists()


def test_the_drawn_classes_are_recorded_and_follow_the_quota(small, tmp_path):
    config = small.config(method="hard_prompt", draw="quota", images_per_prompt=4, target="gender=0.25/0.75")
    metrics = run(config, tmp_path / "run")
    records = pd.read_parquet(tmp_path / "run" / "records.parquet")
    assert records.loc[records["variant"] == "original", "drawn"].isna().all()
    drawn = records[records["variant"] == "hard_prompt"].groupby("prompt_id")["drawn"].value_counts()
    assert drawn.to_dict() == {(p, c): n for p in ("cook", "maid") for c, n in (("female", 1), ("male", 3))}
    assert metrics["draw_class"] == "drawn"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"test_prompts": 3}, "the suite has 2 test prompts"),
        ({"method_options": {"sise": 1}}, "unknown key 'sise': did you mean 'size'"),
        ({"attributes": ("age",)}, "does not read age"),
        ({"judges": []}, "name a directory with --judge"),
        ({"training_judge": None}, "name a directory with --training-judge"),
        ({"steps": 5000}, "at most 1000"),
        ({"model": "portraits-renderer", "suite": "occupations"}, "can only be evaluated"),
        ({"model": "portraits-renderer", "method": "original"}, "knows no role"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_cannot_work_is_refused_before_anything_is_written(small, tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        run(small.config(**changes), tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_the_renderer_is_measured_like_any_model_with_its_own_references(small, tmp_path):
    config = small.config(
        method="original", model="portraits-renderer", suite="occupations", test_prompts=2,
        images_per_prompt=8, features=[str(small.root / "ssl")],
    )  # fmt: skip
    quality = run(config, tmp_path / "run")["variants"]["original"]["quality"]
    assert quality["fid"] is not None and quality["kid"]["mean"] is not None


def test_the_real_method_runs_through_and_its_adapter_loads_again(small, tmp_path):
    quick = {"rank": 2, "prompts_per_update": 1, "images_per_prompt": 4, "noises_per_prompt": 4}
    config = small.config(
        method="biased_dft", method_options=quick | {"steps": 2, "timesteps_per_update": 1}, updates=2
    )
    metrics = run(config, tmp_path / "run")
    assert list(metrics["variants"]) == ["original", "biased_dft"]
    assert load_intervention(tmp_path / "run" / "adapter").settings["updates"] == 2
    assert not (tmp_path / "run" / "training").exists()
