import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fairbench.errors import UserError
from fairbench.report.pareto import front, pareto
from tests.stored_metrics import metrics_of


def metrics(method, bias, change, *, draw="emergent", floor=0.2, attribute="gender"):
    def variant(value, clip_i):
        summary = {"bias_mean": value, "interval": [value - 0.05, value + 0.05], "floor": floor}
        return {"bias": {attribute: summary}, "quality": {"clip_i": {"mean": clip_i}}}

    variants = {"original": variant(0.8, None), method: variant(bias, 1 - change)}
    return metrics_of(method=method, draw_class=draw, variants=variants)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1))
def test_the_front_is_what_nothing_beats(points):
    def beaten(point):
        return any(other != point and other[0] <= point[0] and other[1] <= point[1] for other in points)

    assert front(points) == sorted({point for point in points if not beaten(point)})


def test_the_picture_shows_one_mark_per_run_and_changes_with_them(tmp_path):
    runs = [metrics("a", 0.4, 0.1), metrics("b", 0.3, 0.3, draw="drawn"), metrics("c", 0.5, 0.4)]
    first = pareto(runs, tmp_path / "first.png")
    moved = pareto([*runs[:2], metrics("c", 0.6, 0.4)], tmp_path / "moved.png")
    same = pareto(runs, tmp_path / "same.png")
    with Image.open(first) as ours, Image.open(moved) as theirs:
        assert ours.size == theirs.size
        assert (np.asarray(ours) != np.asarray(theirs)).any()
    assert first.read_bytes() == same.read_bytes()


def test_runs_without_the_numbers_are_left_out(tmp_path):
    known = metrics("a", 0.4, 0.1)
    unknown = metrics("b", 0.3, 0.1, attribute="race")
    assert pareto([known, unknown], tmp_path / "one.png").is_file()
    with pytest.raises(UserError, match="no run holds age and CLIP-I"):
        pareto([known], tmp_path / "none.png", attribute="age")
    with pytest.raises(UserError, match="unknown measure of change 'clipi': did you mean 'clip_i'"):
        pareto([known], tmp_path / "none.png", measure="clipi")
