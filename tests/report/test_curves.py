import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fairbench.errors import UserError
from fairbench.report import curves

ROW = {"update": 1, "loss": 2.0, "loss_alignment": 1.0, "loss_semantics": 0.125, "seconds": 1.5}


def height(path):
    with Image.open(path) as image:
        return image.height


def log(updates=30, **columns):
    rows = [ROW | columns | {"update": u + 1, "loss": 2 - u / 30} for u in range(updates)]
    return pd.DataFrame(rows)


def test_one_panel_per_kind_of_column(tmp_path):
    two = curves.training(log(gap_gender=0.4, gap_race=0.2, faces=1.0, clipped=0), tmp_path / "two.png")
    assert two == tmp_path / "two.png"
    four = log(gap_gender=0.4, gradient_norm=0.5, similarity_clip=0.9)
    assert height(curves.training(four, tmp_path / "four.png")) == 2 * height(two)


def test_same_bytes_again(tmp_path):
    paths = [curves.training(log(gap_gender=0.3), tmp_path / name) for name in ("a.png", "b.png")]
    assert paths[0].read_bytes() == paths[1].read_bytes()


@pytest.mark.parametrize("updates", [1, 2, 200])
def test_any_length_with_gaps_and_overflows(tmp_path, updates):
    table = log(updates, gradient_norm=0.5)
    table.loc[0, "gradient_norm"], table.loc[updates - 1, "loss"] = np.inf, np.nan
    assert curves.training(table, tmp_path / "training.png").stat().st_size > 1000


def test_nothing_to_draw_is_a_user_error(tmp_path):
    for empty in (pd.DataFrame(), pd.DataFrame({"update": [1], "seconds": [1.0]})):
        with pytest.raises(UserError, match="nothing to draw"):
            curves.training(empty, tmp_path / "training.png")
    assert not list(tmp_path.iterdir())


def test_the_terms_of_the_denoising_steps_have_a_panel_of_their_own(tmp_path):
    without = curves.training(log(gap_gender=0.4, gradient_norm=0.5), tmp_path / "without.png")
    table = log(gap_gender=0.4, gradient_norm=0.5)
    # every update leaves out other steps, one could not be computed, and one log row has none
    table["step_norms"] = [[0.0, 1.0, np.nan] if u % 2 else [2.0, 0.0, 3.0] for u in range(len(table))]
    table.loc[3, "step_norms"] = None
    with_steps = curves.training(table, tmp_path / "with.png")
    assert height(with_steps) == height(without)  # the fourth place was free
    norms = curves._step_norms(table)
    assert norms.shape == (29, 3)
    assert np.nanmean(norms, axis=0).tolist() == [2.0, 1.0, 3.0]


def test_step_norms_of_no_or_unequal_length_are_passed_over(tmp_path):
    for norms in ([None] * 30, [[1.0]] * 29 + [[1.0, 2.0]]):
        table = log(gap_gender=0.4)
        table["step_norms"] = norms
        assert curves._step_norms(table) is None
        assert curves.training(table, tmp_path / "training.png").is_file()
