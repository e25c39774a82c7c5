"""Whose judges measure a model: the embedded world brings its own, and any other model must name them."""

import json

import pytest

from fairbench.config import RunConfig
from fairbench.errors import UserError
from fairbench.runs.family import named_networks, of_the_family


def model(place, text):
    """A directory of a model, with this in its fairbench.json."""
    place.mkdir()
    (place / "fairbench.json").write_text(text)
    return str(place)


def test_a_model_is_of_the_embedded_world_by_its_name_or_by_what_lies_beside_it(tmp_path):
    assert of_the_family("portraits") and of_the_family("portraits-renderer")
    assert of_the_family(model(tmp_path / "mine", json.dumps({"family": "portraits", "steps": 20})))
    assert not of_the_family(model(tmp_path / "another", json.dumps({"family": "landscapes"})))
    assert not of_the_family(model(tmp_path / "portraits", json.dumps({"steps": 20})))
    assert not of_the_family(str(tmp_path)) and not of_the_family("org/portraits@main")
    with pytest.raises(UserError, match=r"fairbench\.json is damaged: build or copy the model again"):
        of_the_family(model(tmp_path / "torn", "{"))


def test_the_embedded_world_brings_what_is_not_named():
    own = named_networks(RunConfig(), trains=True)
    assert own["judges"] == ("portraits-eval-a", "portraits-eval-b", "portraits-eval-c")
    assert own["training_judge"] == "portraits-train" and own["training_judge"] not in own["judges"]
    assert not {*own["features"]} & {*own["training_features"]}
    mine = named_networks(RunConfig(judges=("mine",), features=("my-clip",)), trains=True)
    assert mine == own | {"judges": ("mine",), "features": ("my-clip",)}


@pytest.mark.parametrize(
    ("settings", "trains", "missing"),
    [
        ({}, True, "--judge, --training-judge, --training-features"),
        ({"judges": ("a",), "training_features": ("b",)}, True, "--training-judge"),
        ({"features": ("a",)}, False, "--judge"),
    ],
)
def test_every_network_that_is_missing_is_named_at_once(settings, trains, missing):
    with pytest.raises(UserError) as caught:
        named_networks(RunConfig(model="org/sd@main", **settings), trains)
    assert str(caught.value) == (
        f"the model org/sd@main brings no judges of its own: name a directory with {missing}"
    )


def test_nothing_is_missing_where_nothing_needs_it():
    """Images may come with labels, features are never needed, and what is not trained needs no teacher."""
    given = named_networks(RunConfig(model="somebodys", images="folder"), trains=False)
    assert given == {"judges": (), "training_judge": None, "features": (), "training_features": ()}
    assert named_networks(RunConfig(model="somebodys", judges=("a",)), trains=False)["judges"] == ("a",)
