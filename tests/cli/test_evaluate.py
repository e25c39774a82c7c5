import json

import numpy as np
import pytest
from PIL import Image

from fairbench.runs.run import run


@pytest.fixture(scope="module")
def done(built, tmp_path_factory):
    out = tmp_path_factory.mktemp("evaluated") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(built.root / "plugin")
        run(built.config(), out)
    return out


def test_a_run_is_scored_again_and_judged_by_others(fairbench, small, done):
    code, out, err = fairbench("score", done)
    assert code == 0 and "gender" in out and str(done) in out.replace("\n", ""), err
    code, out, err = fairbench("evaluate", done, "--judge", small.root / "judge-b", "--json")
    assert code == 0, err
    assert json.loads(out)["evaluation_judges"] == ["judge-b"]


def test_a_model_and_a_folder_of_its_images_have_the_same_counts(fairbench, small, done, tmp_path):
    common = ("--suite", small.root / "jobs.yaml", "--judge", small.root / "judge-a", "--json")
    settings = ("--images-per-prompt", 3, "--steps", 2, "--guidance", 2.0)
    code, model, err = fairbench("evaluate", "--model", small.root / "model", *settings, *common)
    assert code == 0, err
    code, folder, err = fairbench("evaluate", "--images", done / "images" / "original", *common)
    assert code == 0, err
    first, second = (json.loads(text)["variants"]["original"]["bias"] for text in (model, folder))
    assert [row["counts"] for row in first["gender"]["per_prompt"]] == [
        row["counts"] for row in second["gender"]["per_prompt"]
    ]


def test_a_method_on_a_suite_of_side_effects(fairbench, small, done, tmp_path):
    (tmp_path / "named.yaml").write_text(
        "{name: named, version: '1', licence: MIT, source: made up, placeholder: job, measures: obedience, "
        "words: {gender: {female: [woman], male: [man]}}, "
        "templates: ['a woman, a {job}', 'a man, a {job}'], splits: {test: [cook]}}"
    )
    code, out, err = fairbench("evaluate", done, "--suite", tmp_path / "named.yaml", "--out", tmp_path / "e")
    assert code == 0, err
    assert "obedience" in out and "nudge" in out and "all at once" in out
    metrics = json.loads((tmp_path / "e" / "metrics.json").read_text())
    assert metrics["side_effects"]["gender"]["prompts"] == 2


def test_stopping_by_itself_says_what_it_saved(fairbench, small, tmp_path):
    code, out, err = fairbench(
        "evaluate", "--model", "portraits-renderer[male=1.0]", "--until-width", 0.9, "--test-prompts", 2,
        "--judge", "portraits-eval-a", "--features", small.root / "ssl",
    )  # fmt: skip
    assert code == 0, err
    assert "gender: rms gap in [" in out and "fixed in advance" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nothing",), "not a finished run"),
        (("--images", "nothing"), "neither a folder nor a table"),
        (("run", "--model", "portraits"), "not two of them"),
        (
            ("--images", "x", "--until-width", "0.1"),
            "--until-width is for making images, and --images has them",
        ),
        (("--until-width", "0"), "until_width"),
        (("--images", "{images}"), "nothing judges"),
        (("--images", "{images}", "--judge", "portraits-eval-a", "--target", "gender=0.2/0.3/0.5"), "2 prob"),
        (("--images", "{images}", "--judge", "portraits-eval-c3"), "unknown judge"),
        (("--images", "{images}", "--suite", "occupations"), "unknown test prompt"),
        (("--model", "somebodys/model"), "needs a revision"),
        (("--model", "portraits", "--draw-class", "drawn"), "a method says its own"),
        (("--images", "{images}", "--draw-class", "mergent"), "draw_class: Input should be 'emergent'"),
        (("--images", "{images}", "--judge", "portraits-eval-a", "--reference", "{images}"), "--features"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_in_one_line(fairbench, small, tmp_path, arguments, message):
    (tmp_path / "images" / "prompt_x").mkdir(parents=True)
    Image.fromarray(np.zeros((4, 4, 3), dtype=np.uint8)).save(tmp_path / "images" / "prompt_x" / "img_0.png")
    filled = [argument.replace("{images}", str(tmp_path / "images")) for argument in arguments]
    assert message in fairbench.refused("evaluate", *filled)


def test_only_a_model_that_is_named_brings_judges_for_given_images(fairbench, tmp_path):
    (tmp_path / "portraits").mkdir()
    Image.fromarray(np.zeros((64, 64, 3), dtype=np.uint8)).save(tmp_path / "portraits" / "0.png")
    assert "nothing judges" in fairbench.refused("evaluate", "--images", tmp_path / "portraits")
    code, out, err = fairbench(
        "evaluate", "--images", tmp_path / "portraits", "--model", "portraits", "--json"
    )
    assert code == 0, err
    assert json.loads(out)["primary_judge"] == "portraits-eval-a"


def test_an_evaluation_that_was_done_already_says_so(fairbench, small, done):
    command = ("evaluate", done, "--judge", small.root / "judge-b")
    said = [fairbench(*command)[1], fairbench(*command)[1], fairbench(*command, "--fresh")[1]]
    assert ["this run was already done" in out for out in said] == [False, True, False]


@pytest.mark.parametrize(
    "option", ["--images-per-prompt", "--test-prompts", "--until-width", "--steps", "--guidance"]
)
def test_options_that_would_do_nothing_are_refused(fairbench, small, done, option):
    message = f"{option} is for making images, and {done} has them; --suite makes new ones: leave it out"
    assert message in fairbench.refused("evaluate", done, option, "1")
    assert f"{option} is for" in fairbench.refused("evaluate", "--images", done, option, "1")


def test_a_method_is_not_measured_until_a_width(fairbench, small, done):
    err = fairbench.refused("evaluate", done, "--suite", small.root / "jobs.yaml", "--until-width", "0.1")
    assert f"--until-width measures a model as it is, and {done} is of nudge: leave one out" in err


def test_scoring_needs_a_finished_run(fairbench, tmp_path):
    assert "not a finished run" in fairbench.refused("score", tmp_path)


def test_a_run_is_shown_again_with_each_class_by_itself(fairbench, done):
    code, out, err = fairbench("show", done)
    assert code == 0, err
    assert "gaming gap" in out and "rms, no noise" in out
    assert [line.split()[:2] for line in out.splitlines() if line.startswith("female")] == [
        ["female", "original"], ["female", "nudge"],
    ]  # fmt: skip
    assert json.loads(fairbench("show", done, "--json")[1]) == json.loads((done / "metrics.json").read_text())
