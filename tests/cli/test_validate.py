"""`fairbench validate` from the command line: a sample of the proof, and what it refuses."""

import pytest

from fairbench.cli.main import main


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(["validate", *arguments])
    return int(end.value.code or 0)


SMALL = ("--evaluations", "8", "--classes", "2", "--images", "9", "--no-pictures", "--jobs", "1")


def test_a_sample(tmp_path, capsys) -> None:
    assert call(*SMALL, "--out", str(tmp_path)) == 0
    assert "coverage" in (tmp_path / "estimates.csv").read_text().splitlines()[0]
    assert "8 evaluations" in (tmp_path / "README.md").read_text()
    assert call(*SMALL) == 0
    assert (tmp_path / "README.md").read_text() in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments", [("--evaluations", "0"), ("--classes", "1"), ("--images", "1"), ("--jobs", "0")]
)
def test_settings_that_prove_nothing(arguments: tuple[str, ...], capsys) -> None:
    assert call(*arguments) == 2
    assert "at least" in capsys.readouterr().err


def test_an_unknown_judge_is_found_before_anything_is_simulated(capsys) -> None:
    assert call("--judge", "nobody") == 2
    assert "nobody" in capsys.readouterr().err
