"""The pictures of a run: before and after, every attribute, and curves where there is a training."""

import pandas as pd

from fairbench.report.pictures import paint
from tests.stored_metrics import metrics_of


def painted(place):
    return {path.name for path in (place / "pictures").iterdir()}


def test_a_run_without_training_has_pictures_of_what_it_balanced(make_records, run_directory):
    paint(run_directory, make_records("gender", "race"), None, metrics_of())
    assert painted(run_directory) == {"before_after.png", "gender_by_prompt.png"}


def test_every_attribute_has_a_picture_and_a_training_its_curves(make_records, run_directory):
    log = pd.DataFrame({"update": [1, 2, 3], "loss": [1.0, 0.5, 0.25]})
    paint(run_directory, make_records("gender", "race"), log, metrics_of(attributes=["gender", "race"]))
    assert painted(run_directory) == {
        "before_after.png", "gender_by_prompt.png", "race_by_prompt.png", "training.png",
    }  # fmt: skip


def test_a_training_that_logs_nothing_to_draw_spoils_no_picture(make_records, run_directory):
    log = pd.DataFrame({"update": [1, 2], "seconds": [1.0, 2.0]})
    paint(run_directory, make_records(), log, metrics_of())
    assert painted(run_directory) == {"before_after.png", "gender_by_prompt.png"}


def test_the_same_run_has_the_same_pictures(make_records, run_directory):
    log = pd.DataFrame({"update": [1, 2, 3], "loss": [1.0, 0.5, 0.25]})
    pictures = []
    for _ in range(2):
        paint(run_directory, make_records(), log, metrics_of())
        pictures.append({path.name: path.read_bytes() for path in (run_directory / "pictures").iterdir()})
    assert pictures[0] == pictures[1]
