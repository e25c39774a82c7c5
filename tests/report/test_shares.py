import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairbench.errors import UserError
from fairbench.records import judge_of, measured, method_of
from fairbench.report.shares import Shares, captions
from tests.stored_metrics import metrics_of


def test_counts_by_hand(make_records):
    shares = Shares.of(make_records(), "judge", "gender")
    assert shares.table.loc[("original", "librarian"), "male"] == pytest.approx(0.3)
    assert shares.table.loc[("biased_dft", "blaster"), "female"] == pytest.approx(0.3)
    assert shares.bias["original", "librarian"] == pytest.approx(0.4)
    assert shares.bias["original", "nurse"] == 1
    assert shares.target.tolist() == [0.5, 0.5]


def test_a_faceless_image_counts_for_no_class(make_records):
    records = make_records(faceless=(("original", "librarian", 0), ("original", "librarian", 9)))
    shares = Shares.of(records, "judge", "gender")
    row = shares.table.loc[("original", "librarian")]
    assert (row["n"], row["images"]) == (8, 10)
    assert row["male"] == pytest.approx(2 / 8)
    assert shares.seen("original", "librarian") == pytest.approx([0.6, 0.2])


def test_no_face_at_all_is_no_value(make_records):
    records = make_records(faceless=tuple(("original", "nurse", i) for i in range(10)))
    shares = Shares.of(records, "judge", "gender")
    assert np.isnan(shares.bias["original", "nurse"])
    assert shares.seen("original", "nurse").tolist() == [0, 0]


def test_the_target_of_the_metrics(make_records):
    shares = Shares.of(make_records(), "judge", "gender", metrics_of(target={"gender": [0.25, 0.75]}))
    assert shares.target.tolist() == [0.25, 0.75]
    assert Shares.of(make_records(), "judge", "gender", metrics_of()).target.tolist() == [0.5, 0.5]


@settings(max_examples=20)
@given(st.lists(st.tuples(st.booleans(), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1)), min_size=1))
def test_shares_are_a_distribution_over_the_usable_images(rows):
    records = pd.DataFrame(rows, columns=["j/face", "j/a/x", "j/a/y", "j/a/z"])
    records["j/face"] = records["j/face"].astype(float)
    records["variant"], records["prompt_id"] = "original", "p"
    shares = Shares.of(records, "j", "a")
    usable = int(records["j/face"].sum())
    assert shares.seen("original", "p").sum() == pytest.approx(usable / len(rows))
    assert (shares.table["n"] == usable).all()
    if usable:
        assert 0 <= shares.bias["original", "p"] <= 2 / 3 + 1e-12


def test_judge_method_and_attributes_are_read_off_the_records(make_records):
    records = make_records("gender", "race").assign(**{"second/face": 1.0})
    assert judge_of(records) == "judge"
    assert judge_of(records, "second") == "second"
    assert judge_of(records, "gone") == "judge"
    assert method_of(records) == "biased_dft"
    assert method_of(records[records["variant"] == "original"]) is None
    assert measured(records, "judge") == ["gender", "race"]


def test_a_prompt_without_concept_is_called_by_its_text(make_records):
    records = make_records()
    records["concept"] = records["concept"].where(records["concept"] != "nurse")
    assert captions(records)["blaster"] == "blaster"
    assert captions(records)["nurse"] == "a photo of the face of a nurse, a person"
    assert captions(records, 20)["nurse"] == "a photo of the …"


def test_what_was_not_measured_is_a_user_error(make_records):
    records = make_records()
    with pytest.raises(UserError, match="has not judged age"):
        Shares.of(records, "judge", "age")
    with pytest.raises(UserError, match="measured none of"):
        measured(records, "nobody")
    with pytest.raises(UserError, match="no judge"):
        judge_of(records.drop(columns="judge/face"))
