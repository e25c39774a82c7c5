"""Generating until the gap is known well enough: when it stops, what it reports, and what it gives up on."""

import json

import pandas as pd
import pytest

import fairbench
from fairbench.errors import UserError
from fairbench.images.rows import planned
from fairbench.metrics.fixed_design import images_for_width
from fairbench.portraits.renderer import PortraitsRenderer
from fairbench.runs.adaptive import BLOCKS, HOPELESS
from fairbench.suites import load_suite


def test_generating_stops_when_the_gap_is_known_well_enough(small, tmp_path):
    settings = {
        "suite": "occupations", "test_prompts": 3, "until_width": 0.5, "features": [str(small.root / "ssl")],
        "judges": ["portraits-eval-a"], "model_options": {"male": 0.9},
    }  # fmt: skip
    found = fairbench.evaluate("portraits-renderer", out=tmp_path / "e", **settings)
    stopped = found.metrics["sequential"]
    low, high = stopped["attributes"]["gender"]["interval"]
    assert high - low <= 0.5
    assert stopped["images"] == len(found.records)
    assert stopped["saved"] == stopped["attributes"]["gender"]["fixed"] - len(found.records)
    assert low <= found.metrics["variants"]["original"]["bias"]["gender"]["debiased"] <= high
    (tmp_path / "e" / "status.json").unlink()
    again = fairbench.evaluate("portraits-renderer", out=tmp_path / "e", **settings)
    assert again.metrics["sequential"] == stopped
    assert json.loads((tmp_path / "e" / "measurement.json").read_text())["sequential"] == stopped.to_json()


@pytest.fixture(scope="module")
def stopped(built, tmp_path_factory):
    """A model that draws one race alone, which is known long before its gap of gender is."""
    return fairbench.evaluate(
        "portraits-renderer[Black=1.0]", suite="occupations", test_prompts=3, attributes="gender,race",
        until_width=0.25, judges=["portraits-eval-a"], features=[str(built.root / "ssl")], seed=7,
        out=tmp_path_factory.mktemp("adaptive") / "e",
    )  # fmt: skip


def test_the_images_are_those_that_a_run_of_as_many_would_have(stopped):
    """Of each prompt the first so many, in the order of the suite, whatever the order they were made in."""
    suite, records = load_suite("occupations"), stopped.records
    counts = records["prompt_id"].value_counts()
    assert list(records["prompt_id"].unique()) == [prompt.id for prompt in suite.prompts("test")[:3]]
    expected = pd.concat(
        [planned("original", "original", suite, [prompt], counts[prompt.id], 7)
         for prompt in suite.prompts("test")[:3]],
        ignore_index=True,
    )  # fmt: skip
    pd.testing.assert_frame_equal(records[list(expected)], expected)
    assert all((stopped.path / image).is_file() for image in records["image"])


def test_what_was_reached_is_reported_beside_what_a_fixed_design_needs(stopped):
    report = stopped.metrics.sequential
    assert (report.width, report.images) == (0.25, len(stopped.records))
    assert list(report.attributes) == ["gender", "race"]
    for name, classes in (("gender", 2), ("race", 4)):
        found = report.attributes[name]
        low, high = found.interval
        assert 0 <= low < high <= (2 / classes) ** 0.5 and high - low <= 0.25
        assert found.fixed == images_for_width(3, classes, 0.25)
        assert found.fixed_knowing_the_gap == images_for_width(3, classes, 0.25, gap=(low + high) / 2)
        assert found.fixed_knowing_the_gap <= found.fixed
    assert report.saved == max(found.fixed for found in report.attributes.values()) - report.images
    assert report.attributes["race"].interval[1] == pytest.approx(0.5**0.5, abs=0.01)


def test_a_prompt_that_shows_no_face_is_given_up_and_named(tmp_path):
    renderer, made = PortraitsRenderer(), []
    blank = load_suite("occupations").prompts("test")[2].text

    def faceless(prompts, seeds):
        made.extend(prompts)
        images = renderer.generate(prompts, seeds)
        images[[prompt == blank for prompt in prompts]] = 0.5
        return images

    options = {"suite": "occupations", "test_prompts": 3, "until_width": 0.1, "judges": ["portraits-eval-a"]}
    with pytest.raises(UserError, match="show no face: leave it out of the suite") as caught:
        fairbench.evaluate(faceless, out=tmp_path / "e", **options)
    count = made.count(blank)
    assert str(caught.value).startswith(f"{count} images of {blank!r} show no face")
    assert HOPELESS <= count < len(made)
    assert not (tmp_path / "e" / "status.json").exists()


def test_images_without_a_face_are_made_up_for_and_counted(tmp_path):
    renderer = PortraitsRenderer()

    def moody(prompts, seeds):
        images = renderer.generate(prompts, seeds)
        images[[seed % 2 == 0 for seed in seeds]] = 0.5
        return images

    options = {"suite": "occupations", "test_prompts": 2, "until_width": 0.9, "judges": ["portraits-eval-a"]}
    found = fairbench.evaluate(moody, out=tmp_path / "e", **options)
    bias = found.metrics.variants["original"].bias["gender"]
    assert found.metrics.sequential.images == bias.images == len(found.records)
    faces = (found.records["portraits-eval-a/face"] >= 0.5).to_numpy()
    assert faces.tolist() == (found.records["seed"] % 2 == 1).tolist()
    assert bias.usable == faces.sum() >= BLOCKS * 8
