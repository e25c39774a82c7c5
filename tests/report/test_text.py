"""Text in pictures is text: no formula, and in a font that has its letters, or one line says so."""

import warnings

import pytest
from matplotlib import font_manager, mathtext
from matplotlib.figure import Figure
from matplotlib.text import Text

from fairbench.errors import Notice
from fairbench.report import plots, style
from fairbench.report.pictures import paint
from fairbench.report.shares import captions
from tests.stored_metrics import metrics_of

NOWHERE = "\U0010fffd"
"""The last letter of the private planes: no font has it."""


@pytest.fixture(autouse=True)
def untold():
    style._tell_of_boxes.cache_clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def named(records, name):
    return records.replace({"concept": {"nurse": name}, "prompt": {"nurse": name}})


@pytest.mark.parametrize("name", ["with $_^_$", "$5 for 5$", "one $", r"\frac{1}{0} $\frac$"])
def test_dollar_signs_are_dollar_signs(make_records, run_directory, monkeypatch, name):
    monkeypatch.setattr(mathtext.MathTextParser, "parse", lambda *given, **more: 1 / 0)
    paint(run_directory, named(make_records(), name), None, metrics_of())
    assert (run_directory / "pictures" / "before_after.png").is_file()


def test_letters_that_no_font_has_are_said_once_for_all_pictures(make_records, run_directory):
    records = named(make_records("gender", "race"), NOWHERE)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        paint(run_directory, records, None, metrics_of(attributes=["gender", "race"]))
    assert [(each.category, str(each.message)[:36]) for each in told] == [
        (Notice, "letters of prompts or names are boxe")
    ]
    assert len(list((run_directory / "pictures").iterdir())) == 3


def test_a_font_that_has_the_letters_is_used_where_one_is_installed(tmp_path):
    theirs = font_manager.get_font(font_manager.findfont("STIXGeneral")).get_charmap()
    ours = font_manager.get_font(font_manager.findfont(style.FONT)).get_charmap()
    letter = chr(min(set(theirs) - set(ours) - set(map(ord, style.UNSEEN))))
    figure = Figure(figsize=(2, 1))
    figure.text(0.1, 0.5, f"{letter}, an emoji joiner \u200d and a plain word")
    style.save(figure, tmp_path / "letters.png")
    (text,) = figure.findobj(Text)
    assert text.get_fontfamily()[0] == style.FONT and len(text.get_fontfamily()) > 1
    plain = Figure(figsize=(2, 1))
    plain.text(0.1, 0.5, "a plain word")
    style.save(plain, tmp_path / "plain.png")
    assert len(plain.findobj(Text)[0].get_fontfamily()) == 1


def test_a_picture_that_fails_stops_nothing_and_is_named(make_records, run_directory, monkeypatch):
    monkeypatch.setattr(plots, "dumbbell", lambda *given, **more: 1 / 0)
    with pytest.warns(Notice, match=r"gender_by_prompt.png: could not be drawn.*ZeroDivisionError"):
        paint(run_directory, make_records(), None, metrics_of())
    assert [path.name for path in (run_directory / "pictures").iterdir()] == ["before_after.png"]


def test_a_full_disk_is_no_matter_of_the_picture(make_records, run_directory, monkeypatch):
    def full(*given, **more):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(plots, "dumbbell", full)
    with pytest.raises(OSError, match="No space left"):
        paint(run_directory, make_records(), None, metrics_of())


def test_a_long_name_without_spaces_keeps_its_beginning(make_records):
    assert captions(named(make_records(), "医" * 60), 42)["nurse"] == "医" * 21 + " …"
    assert captions(named(make_records(), "a nurse who reads"), 9)["nurse"] == "a nurse …"
