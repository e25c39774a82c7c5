import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from fairbench.report import grids, style
from fairbench.report.grids import BAR, CAPTION, FOOTER, GUTTER, HEADER, MARGIN, ROW_SPACE, SPACE, TILE
from fairbench.report.shares import Shares
from tests.stored_metrics import metrics_of

IMAGES = 4
BLOCK = IMAGES * (TILE + SPACE) - SPACE
RIGHT = MARGIN + BLOCK + GUTTER


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def bar(picture, left, row, bars=1, k=0):
    """The line of pixels through the middle of a bar, ticks left out."""
    top = HEADER + row * (CAPTION + TILE + bars * BAR + ROW_SPACE) + CAPTION + TILE + 6 + k * BAR
    return picture[top + (BAR - 6) // 2, left : left + BLOCK]


def share(line, colour):
    wanted = np.array([round(255 * c) for c in to_rgb(colour)])
    return (np.abs(line - wanted).max(axis=1) <= 2).mean()


def test_originals_left_debiased_right_and_bars_that_count_all_images(make_records, run_directory):
    path = grids.before_after(make_records(), run_directory, prompts=3, images=IMAGES)
    assert path == run_directory / "pictures" / "before_after.png"
    picture = pixels(path)
    rows = 3 * (CAPTION + TILE + BAR + ROW_SPACE)
    assert picture.shape == (HEADER + rows + FOOTER, RIGHT + BLOCK + MARGIN, 3)
    middle = HEADER + CAPTION + TILE // 2
    assert picture[middle, MARGIN + TILE // 2].tolist() == [200, 30, 30]
    assert picture[middle, RIGHT + TILE // 2].tolist() == [30, 200, 30]
    # rows: blaster and nurse (bias 1, by id), then librarian (.4); the tick takes two pixels of some colour
    male = style.PALETTES["gender"][1]
    for row, (before, after) in enumerate([(1.0, 0.7), (0.0, 0.4), (0.3, 0.5)]):
        assert share(bar(picture, MARGIN, row), male) == pytest.approx(before, abs=0.012)
        assert share(bar(picture, RIGHT, row), male) == pytest.approx(after, abs=0.012)


def test_images_of_16_bits_and_transparent_ones_are_shown_as_they_were_judged(make_records, run_directory):
    deep, clear = (run_directory / f"images/original/blaster/{k}.png" for k in (0, 1))
    Image.fromarray(np.full((8, 8), 100 * 257, dtype=np.uint16)).save(deep)
    Image.new("RGBA", (8, 8), (200, 30, 30, 0)).save(clear)
    picture = pixels(grids.before_after(make_records(), run_directory, prompts=3, images=IMAGES))
    middle = HEADER + CAPTION + TILE // 2
    assert picture[middle, MARGIN + TILE // 2].tolist() == [100, 100, 100]
    assert picture[middle, MARGIN + TILE + SPACE + TILE // 2].tolist() == [255, 255, 255]


def test_images_without_a_face_are_a_grey_rest(make_records, run_directory):
    records = make_records(faceless=(("original", "blaster", 0), ("original", "blaster", 1)))
    line = bar(pixels(grids.before_after(records, run_directory, images=IMAGES)), MARGIN, 0)
    assert share(line, style.PALE) == pytest.approx(0.2, abs=0.012)
    assert share(line, style.PALETTES["gender"][1]) == pytest.approx(0.8, abs=0.012)


def test_every_measured_attribute_has_its_bar_unless_the_run_was_about_some(make_records, run_directory):
    records = make_records("gender", "race")
    both = pixels(grids.before_after(records, run_directory, prompts=2, images=IMAGES))
    asked = metrics_of()
    one = pixels(grids.before_after(records, run_directory, asked, prompts=2, images=IMAGES))
    assert both.shape[0] - one.shape[0] == 2 * BAR
    line = bar(both, MARGIN, 0, bars=2, k=1)
    assert share(line, style.PALETTES["race"][0]) == pytest.approx(0.3, abs=0.012)


def test_only_the_original_model(make_records, run_directory):
    records = make_records()
    records = records[records["variant"] == "original"]
    picture = pixels(grids.before_after(records, run_directory, images=IMAGES))
    assert picture.shape[1] == 2 * MARGIN + BLOCK


def test_the_same_records_give_the_same_bytes(make_records, run_directory):
    first = grids.before_after(make_records(), run_directory, images=2, path=run_directory / "a.png")
    shuffled = make_records().sample(frac=1, random_state=1)
    second = grids.before_after(shuffled, run_directory, images=2, path=run_directory / "b.png")
    assert first.read_bytes() == second.read_bytes()


def test_prompts_are_the_most_biased_ones_leaning_to_each_class_in_turn(make_records):
    shares = Shares.of(make_records(), "judge", "gender")
    assert grids.most_biased(shares, 1) == ["nurse"]  # female is the first class
    assert grids.most_biased(shares, 2) == ["blaster", "nurse"]
    assert grids.most_biased(shares, 9) == ["blaster", "nurse", "librarian"]


def test_a_prompt_without_any_face_is_not_chosen(make_records):
    records = make_records(faceless=tuple(("original", "nurse", i) for i in range(10)))
    assert grids.most_biased(Shares.of(records, "judge", "gender"), 9) == ["blaster", "librarian"]
