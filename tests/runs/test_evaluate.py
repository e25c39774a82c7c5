"""Evaluations of callables, folders, tables and runs, against the run that wrote the same images."""

import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

import fairbench
from fairbench.comparison.variants import variants_of
from fairbench.errors import UserError
from fairbench.judges import load_judge
from fairbench.judges.confusion import write_confusion
from fairbench.models.loading import load_model
from fairbench.networks import WEIGHTS
from fairbench.runs.evaluate import evaluate_images, evaluation
from fairbench.runs.run import run
from fairbench.store.layout import RunDirectory
from fairbench.store.load import load_run
from fairbench.store.manifest import note_made
from tests.runs.folders import config_of, folder_of, picture
from tests.runs.small import renamed

COUNTS = ("counts", "images", "usable", "bias")


@pytest.fixture(scope="module")
def done(built, tmp_path_factory):
    out = tmp_path_factory.mktemp("evaluator") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(built.root / "plugin")
        run(built.config(), out)
    return out


def counts(metrics, variant, attribute="gender"):
    rows = metrics["variants"][variant]["bias"][attribute]["per_prompt"]
    return [[row[key] for key in COUNTS] for row in rows]


@pytest.mark.parametrize(("folder", "variant"), [("original", "original"), ("debiased", "nudge")])
def test_a_folder_that_a_run_wrote_has_the_seeds_and_counts_of_the_run(
    small, done, tmp_path, folder, variant
):
    suite = str(small.root / "jobs.yaml")
    config = config_of(small, done / "images" / folder, suite=suite)
    found = evaluate_images(config, tmp_path / "evaluation")
    theirs, ours = load_run(done), load_run(tmp_path / "evaluation")
    for attribute in ("gender", "race", "gender x race"):
        assert counts(found, "original", attribute) == counts(theirs.metrics, variant, attribute)
    rows = theirs.records[theirs.records["variant"] == variant]
    for column in ("prompt_id", "image_index", "seed", "clip_t"):
        assert list(ours.records[column]) == pytest.approx(list(rows[column]))
    assert {"config.yaml", "provenance.json", "records.parquet", "metrics.json", "status.json"} <= {
        path.name for path in (tmp_path / "evaluation").iterdir()
    }
    assert evaluate_images(config, tmp_path / "evaluation") == found


def test_a_run_is_seen_by_other_judges_and_keeps_its_teachers_view(small, done, tmp_path):
    settings = load_run(done).config | {"images": str(done), "judges": [str(small.root / "judge-b")]}
    found = evaluate_images(small.config(**settings), tmp_path / "again")
    before = load_run(done).metrics
    assert list(found["variants"]) == ["original", "nudge"]
    assert (found["evaluation_judges"], found["training_judge"]) == (["judge-b"], "judge-train")
    for variant in ("original", "nudge"):
        for judge in ("judge-b", "judge-train"):
            mine, theirs = (m["variants"][variant]["judges"][judge]["gender"] for m in (found, before))
            assert mine["bias_mean"] == theirs["bias_mean"]
    assert found["spill_over"].keys() == {"race"}
    pupils = [variants_of([load_run(place)])[-1] for place in (done, tmp_path / "again")]
    teacher = load_judge(small.root / "judge-train")
    assert [pupil.known_by("judge-train") for pupil in pupils] == [teacher.weights | {teacher.sha256}] * 2


def test_the_judge_that_trained_a_method_may_not_evaluate_its_run(small, done, tmp_path):
    settings = load_run(done).config | {"images": str(done), "judges": [str(small.root / "judge-train")]}
    with pytest.raises(UserError, match="trained the method"):
        evaluate_images(small.config(**settings), tmp_path / "again")
    assert not list(tmp_path.iterdir())


def test_no_copy_of_the_judge_that_trained_a_method_may_evaluate_it(small, done, tmp_path):
    settings = load_run(done).config | {"images": str(done)}
    copy = renamed(small.root / "judge-train", tmp_path / "copy", "independent")
    with pytest.raises(UserError, match="independent trained the method"):
        evaluate_images(small.config(**settings | {"judges": [copy]}), tmp_path / "again")
    counted = tmp_path / "counted"
    shutil.copytree(small.root / "judge-train", counted)
    write_confusion(counted, load_judge(counted), {"gender": np.array([[8, 2], [1, 9]])})
    with pytest.raises(UserError, match="judge-train trained the method"):
        evaluate_images(small.config(**settings | {"judges": [str(counted)]}), tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_a_judge_may_not_be_called_like_what_has_judged_the_images_already(small, done, tmp_path):
    picture(tmp_path / "0.png")
    table = pd.DataFrame({"path": ["0.png"], "prompt": ["a"], "gender": ["male"]})
    table.to_csv(tmp_path / "t.csv", index=False)
    trained = small.config(**(load_run(done).config | {"images": str(done)}))
    for name, config in (("judge-train", trained), ("known", config_of(small, tmp_path / "t.csv"))):
        namesake = renamed(small.root / "judge-a", tmp_path / name, name)
        with pytest.raises(UserError, match=f"two networks are called {name}"):
            evaluate_images(config.model_copy(update={"judges": (namesake,)}), tmp_path / "e")
        assert not (tmp_path / "e").exists()


def test_the_features_that_trained_a_method_may_not_measure_its_run(small, done, tmp_path):
    settings = load_run(done).config | {"images": str(done), "features": [str(small.root / "ssl-train")]}
    with pytest.raises(UserError, match="features ssl-train train the method, so they cannot measure it"):
        evaluate_images(small.config(**settings), tmp_path / "again")
    assert not list(tmp_path.iterdir())


def test_a_callable_is_measured_like_the_model_it_wraps(small, tmp_path):
    model = load_model(str(small.root / "model"))

    def mine(prompts, seeds):
        images = model.generate(prompts, seeds, steps=2, guidance=2.0)
        return (images.permute(0, 2, 3, 1) * 255).round().byte().numpy()

    options = {"judges": [str(small.root / "judge-a")], "images_per_prompt": 3}
    suite = str(small.root / "jobs.yaml")
    found = fairbench.evaluate(mine, suite=suite, out=tmp_path / "mine", **options)
    theirs = fairbench.evaluate(
        str(small.root / "model"), suite=suite, out=tmp_path / "model", steps=2, guidance=2.0, **options
    )
    assert counts(found.metrics, "original") == counts(theirs.metrics, "original")
    assert list(found.records["seed"]) == list(theirs.records["seed"])
    assert found.metrics["model"] == "mine"


def test_mixed_sizes_and_kinds_and_a_single_image(small, tmp_path):
    for k, (size, mode) in enumerate([((64, 64), "RGB"), ((32, 48), "L"), ((64, 64), "RGBA")]):
        picture(tmp_path / "mixed" / "prompt_0" / f"img_{k}.png", k, size, mode)
    found = evaluate_images(config_of(small, tmp_path / "mixed"), tmp_path / "e")
    assert found["variants"]["original"]["bias"]["gender"]["images"] == 3
    picture(tmp_path / "one" / "prompt_0" / "img_0.png")
    summary = evaluate_images(config_of(small, tmp_path / "one"), tmp_path / "f")["variants"]["original"]
    assert summary["bias"]["gender"]["images"] == 1 and summary["bias"]["gender"]["interval"] is None
    assert summary["quality"]["clip_t"]["images"] == 0


def test_an_image_that_cannot_be_read_stops_before_anything_is_written(small, tmp_path):
    torn = picture(tmp_path / "images" / "prompt_0" / "img_0.png")
    torn.write_bytes(torn.read_bytes()[:-50])
    with pytest.raises(UserError, match="cannot be read as an image"):
        evaluate_images(config_of(small, tmp_path / "images"), tmp_path / "e")
    assert not (tmp_path / "e").exists()


def test_labels_alone_need_no_judge_and_a_class_may_be_missing(small, tmp_path):
    paths = [picture(tmp_path / f"{k}.png", k).name for k in range(4)]
    table = pd.DataFrame({"path": paths, "prompt": ["a", "a", "b", "b"], "gender": ["male", "male", "", ""]})
    table.to_csv(tmp_path / "t.csv", index=False)
    config = config_of(small, tmp_path / "t.csv", judges=[], features=[])
    found = evaluate_images(config, tmp_path / "e")
    summary = found["variants"]["original"]["bias"]["gender"]
    assert found["primary_judge"] == "known"
    assert summary["bias_mean"] == 1 and summary["prompts_without_value"] == 1
    assert [row["counts"] for row in summary["per_prompt"]] == [
        {"female": 0, "male": 2}, {"female": 0, "male": 0},
    ]  # fmt: skip
    assert found["variants"]["original"]["groups"]["gender"]["female"]["images"] == 0


@pytest.mark.parametrize(
    ("columns", "changes", "message"),
    [
        ({}, {"judges": [], "features": []}, "nothing judges"),
        ({"gender": ["male"]}, {"judges": [], "attributes": ["race"]}, "say nothing of race"),
    ],
)
def test_images_that_nobody_judges(small, tmp_path, columns, changes, message):
    picture(tmp_path / "0.png")
    pd.DataFrame({"path": ["0.png"], "prompt": ["a"], **columns}).to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(UserError, match=message):
        evaluate_images(config_of(small, tmp_path / "t.csv", **changes), tmp_path / "e")
    assert not (tmp_path / "e").exists()


def test_a_judge_that_returns_nan_is_named(small, tmp_path):
    from safetensors.torch import save_file

    shutil.copytree(small.root / "judge-a", tmp_path / "judge")
    weights = load_file(tmp_path / "judge" / WEIGHTS)
    weights["heads.of_gender.weight"] = torch.full_like(weights["heads.of_gender.weight"], torch.nan)
    save_file(weights, tmp_path / "judge" / WEIGHTS)
    picture(tmp_path / "images" / "prompt_0" / "img_0.png")
    config = config_of(small, tmp_path / "images", judges=[str(tmp_path / "judge")])
    with pytest.raises(UserError, match="gender output is not finite"):
        evaluate_images(config, tmp_path / "e")


def test_long_prompts_are_cut_for_clip_t_and_said(small, tmp_path):
    picture(tmp_path / "images" / "prompt_0" / "img_0.png")
    (tmp_path / "images" / "prompt_0" / "prompt.txt").write_text("the face of a dj " * 20)
    found = evaluate_images(config_of(small, tmp_path / "images"), tmp_path / "e")
    assert found["variants"]["original"]["quality"]["clip_t"]["images"] == 1
    assert any("beginning only of 1 of 1 prompts" in note for note in found["notes"])


def test_a_prompt_that_no_face_is_seen_in_is_no_value(small, tmp_path):
    model = "portraits-renderer"
    records = fairbench.evaluate(
        model, suite="occupations", test_prompts=2, images_per_prompt=4, out=tmp_path / "e",
        judges=["portraits-eval-a"], features=[str(small.root / "ssl")],
    )  # fmt: skip
    faceless = records.records.assign(**{"portraits-eval-a/face": [0.9] * 4 + [0.1] * 4})
    faceless.to_parquet(tmp_path / "e" / "records.parquet")
    note_made(RunDirectory(tmp_path / "e"), "records.parquet")
    from fairbench.scoring.score import score

    summary = score(tmp_path / "e")["variants"]["original"]["bias"]["gender"]
    assert [row["bias"] is None for row in summary["per_prompt"]] == [False, True]
    assert summary["face_rate"] == 0.5 and summary["prompts_without_value"] == 1


def test_a_suite_of_named_attributes_measures_obedience(small, tmp_path):
    found = fairbench.evaluate(
        "portraits-renderer", suite="explicit", test_prompts=8, images_per_prompt=2, out=tmp_path / "e",
        judges=["portraits-eval-a"], features=[str(small.root / "ssl")],
    )  # fmt: skip
    obeyed = found.metrics["variants"]["original"]["obedience"]
    assert obeyed["gender"]["images"] == 4 and obeyed["race"]["images"] == 8 and obeyed["age"]["images"] == 4
    bias = found.metrics["variants"]["original"]["bias"]
    assert bias["gender"]["images"] == 12 and bias["race"]["images"] == 8
    assert "reference.parquet" not in {path.name for path in (tmp_path / "e").iterdir()}


def test_a_trained_method_is_measured_on_another_suite_without_training(small, done, tmp_path):
    suite = tmp_path / "still.yaml"
    suite.write_text(
        "{name: still, version: '1', licence: MIT, source: made up, placeholder: thing, "
        "measures: preservation, templates: ['a {thing}'], splits: {test: [cup, key]}}"
    )
    settings = load_run(done).config | {"suite": str(suite), "adapter": str(done / "adapter")}
    found = run(small.config(**settings), tmp_path / "e")
    kept = found["variants"]["nudge"]["preservation"]
    assert 0 < kept["clip_i"]["mean"] <= 1 and kept["clip_i"]["prompts"] == 2
    assert "clip_i" not in found["variants"]["original"]["preservation"]
    assert not (tmp_path / "e" / "training.parquet").exists()
    with pytest.raises(UserError, match="no training prompts: train on another one"):
        run(small.config(suite=str(suite)), tmp_path / "f")
    with pytest.raises(UserError, match="is of nudge, not of original"):
        run(small.config(**(settings | {"method": "original"})), tmp_path / "f")
    with pytest.raises(UserError, match="as it is"):
        run(small.config(until_width=0.1), tmp_path / "f")
    with pytest.raises(UserError, match="fairbench evaluate --images"):
        run(small.config(images="x"), tmp_path / "f")


def test_an_evaluation_interrupted_while_it_copies_the_adapter_goes_on(small, done, tmp_path, monkeypatch):
    config = small.config(**(load_run(done).config | {"adapter": str(done / "adapter")}))

    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(
            "fairbench.intervention_files.atomic_write_text", interrupt
        )  # the weights are there, no more
        with pytest.raises(KeyboardInterrupt):
            run(config, tmp_path / "e")
    assert run(config, tmp_path / "e")["variants"].keys() == {"original", "nudge"}
    assert load_run(tmp_path / "e").metrics["method"] == "nudge"


def test_an_emergent_method_may_be_measured_on_other_attributes(small, done, tmp_path):
    settings = load_run(done).config | {"adapter": str(done / "adapter"), "attributes": ["race"]}
    assert run(small.config(**settings), tmp_path / "e")["attributes"] == ["race"]


def test_who_chose_the_attributes_is_unknown_until_it_is_said(small, done, tmp_path):
    images = folder_of(tmp_path / "images", ["prompt_0"], 2)
    assert evaluate_images(config_of(small, images), tmp_path / "e")["draw_class"] == "unknown"
    said = config_of(small, images, draw_class="drawn")
    assert evaluate_images(said, tmp_path / "f")["draw_class"] == "drawn"
    with pytest.raises(UserError, match="is a run and says itself"):
        evaluate_images(config_of(small, done, draw_class="drawn"), tmp_path / "g")
    with pytest.raises(ValueError, match="a method says its own"):
        small.config(draw_class="drawn")


@pytest.mark.parametrize(("name", "model"), [("sd-1.4", "sd-1.4"), ("sd-1.5.csv", "sd-1.5")])
def test_images_are_called_by_the_whole_name_of_their_folder(tmp_path, name, model):
    place = tmp_path / name
    place.touch() if name.endswith(".csv") else place.mkdir()
    assert evaluation(None, {}, place, {}).model == model
