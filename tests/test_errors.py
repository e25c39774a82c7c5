import pytest
from pydantic import BaseModel, ConfigDict, ValidationError

from fairbench.errors import UserError, invalid, unknown


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [("biased_dtf", "biased_dft"), ("BIASED_DFT", "biased_dft"), ("orignal", "original")],
)
def test_unknown_names_the_nearest(name, suggestion):
    error = unknown("method", name, ["original", "biased_dft"])
    assert isinstance(error, UserError)
    assert str(error) == f"unknown method {name!r}: did you mean {suggestion!r}? known: biased_dft, original"


def test_unknown_without_a_near_name_lists_what_there_is():
    assert (
        str(unknown("judge", "zzz", ["portraits-eval-a"])) == "unknown judge 'zzz'; known: portraits-eval-a"
    )
    assert str(unknown("judge", "zzz", iter(()))) == "unknown judge 'zzz'; known: none"


def test_invalid_is_one_line_that_names_every_faulty_key():
    class Settings(BaseModel):
        model_config = ConfigDict(extra="forbid")
        rank: int = 8
        rates: list[float] = []

    with pytest.raises(ValidationError) as caught:
        Settings.model_validate({"rank": "x", "rnak": 1, "rates": [1, "y"]})
    message = str(invalid("biased_dft", caught.value, Settings.model_fields))
    assert message.startswith("biased_dft: ")
    assert "\n" not in message
    assert "rank: " in message
    assert "rates.1: " in message
    assert "unknown key 'rnak': did you mean 'rank'?" in message
    assert "unknown key 'rnak'" in str(invalid("", caught.value))


def test_a_value_of_several_types_is_told_once_by_its_own_name():
    from fairbench.methods.biased_dft import BiasedDFT

    for wrong, message in (
        ({"rows": 0}, "rows: Input should be greater than or equal to 1, or Input should be 'auto'"),
        (
            {"checkpointing": "maybe"},
            "checkpointing: Input should be a valid boolean, or Input should be 'auto'",
        ),
        (
            {"checkpointing": "yes"},
            "checkpointing: Input should be a valid boolean, or Input should be 'auto'",
        ),
    ):
        with pytest.raises(ValidationError) as caught:
            BiasedDFT.Config(**wrong)
        assert str(invalid("method biased_dft", caught.value)) == f"method biased_dft: {message}"
