import pytest
from PIL import Image

from fairbench.errors import UserError
from fairbench.report import plots
from tests.stored_metrics import metrics_of


def test_a_taller_picture_for_more_prompts(make_records, tmp_path):
    records = make_records()
    three = plots.dumbbell(records, tmp_path / "three.png")
    two = plots.dumbbell(records[records["prompt_id"] != "nurse"], tmp_path / "two.png")
    with Image.open(three) as first, Image.open(two) as second:
        assert first.height > second.height
        assert first.width == second.width


def test_any_class_any_target_and_without_a_method(make_records, tmp_path):
    records = make_records("gender", "race")
    target = metrics_of(target={"race": [0.4, 0.3, 0.2, 0.1]})
    plots.dumbbell(records, tmp_path / "race.png", target, attribute="race", label="Black")
    plots.dumbbell(records[records["variant"] == "original"], tmp_path / "original.png")
    assert len(list(tmp_path.iterdir())) == 2


def test_the_same_records_give_the_same_bytes(make_records, tmp_path):
    paths = [plots.dumbbell(make_records(), tmp_path / name) for name in ("a.png", "b.png")]
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_prompts_without_a_face_are_left_out(make_records, tmp_path):
    records = make_records(faceless=tuple(("original", "nurse", i) for i in range(10)))
    assert plots.dumbbell(records, tmp_path / "plot.png").is_file()


def test_unknown_class(make_records, tmp_path):
    with pytest.raises(UserError, match="did you mean 'male'"):
        plots.dumbbell(make_records(), tmp_path / "plot.png", label="mael")
