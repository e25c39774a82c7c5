import pandas as pd
import pytest
from matplotlib.figure import Figure
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


def test_of_very_many_prompts_a_readable_part_is_drawn(tmp_path, monkeypatch):
    """2,400 prompts would be 69,000 pixels high; the first and the last stay, and the axis says how many."""
    drawn = []
    monkeypatch.setattr(plots.style, "save", lambda figure, path, dpi: drawn.append(figure))
    prompts = [f"p{k:04}" for k in range(2400)]
    rows = {
        "variant": "original",
        "prompt_id": prompts,
        "prompt": prompts,
        "concept": prompts,
        "judge/face": 1.0,
    }
    share = [k / 2399 for k in range(2400)]
    records = pd.DataFrame(rows | {"judge/gender/female": [1 - s for s in share], "judge/gender/male": share})
    plots.dumbbell(records, tmp_path / "plot.png")
    axes = drawn[0].axes[0]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert len(labels) == len(set(labels)) == plots.MOST and (labels[0], labels[-1]) == ("p0000", "p2399")
    assert axes.get_xlabel() == "share of images judged male, 200 of 2400 prompts"
    assert drawn[0].get_size_inches()[1] * 130 < 6000


def test_no_picture_is_larger_than_can_be_drawn(tmp_path):
    path = plots.style.save(Figure(figsize=(1, 1000)), tmp_path / "tall.png", dpi=130)
    with Image.open(path) as picture:
        assert 2**16 - 200 < picture.height < 2**16
