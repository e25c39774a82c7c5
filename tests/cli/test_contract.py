import json

import pytest

from tests.cli.command import call

METHOD = '''
from contextlib import contextmanager

from pydantic import BaseModel, ConfigDict

from fairbench.intervention import Intervention
from fairbench.models.hooks import Hooks


class Nothing:
    """Leave :math:`z` alone.

    Source: this file.

    Limits: all.
    """

    name, draw_class, neutral = "nothing", "emergent", {}

    class Config(BaseModel):
        model_config = ConfigDict(frozen=True, extra="forbid")
        updates: int = 0

    def __init__(self, config):
        self.config = config

    def fit(self, context):
        return Intervention(self.name, self.draw_class)

    @contextmanager
    def apply(self, intervention, model, draw):
        yield Hooks()
'''


def test_a_file_is_tried_clause_by_clause(capsys, tmp_path):
    path = tmp_path / "nothing.py"
    path.write_text(METHOD)
    code, out, err = call(capsys, "test", path)
    assert code == 0, err
    assert [line.split()[0] for line in out.splitlines()] == ["passed"] * 10
    path.write_text(METHOD.replace("    Limits: all.\n", ""))
    code, out, _ = call(capsys, "test", path, "--json")
    rows = json.loads(out)
    assert code == 1
    assert [row["clause"] for row in rows if row["outcome"] == "failed"] == [
        "states equation, source and limits"
    ]


def test_a_class_that_cannot_be_made_is_refused_in_one_line(capsys, tmp_path):
    path = tmp_path / "nothing.py"
    path.write_text(METHOD.replace("    def __init__(self, config):\n        self.config = config\n", ""))
    code, _, err = call(capsys, "test", path)
    assert (
        code == 2 and "Nothing cannot be made from its Config" in err and len(err.strip().splitlines()) == 1
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("gone.py",), "gone.py: there is no such file"),
        (("orignal",), "unknown method 'orignal': did you mean 'original'"),
        (("original[strength=1]",), "unknown key 'strength'"),
        (("original", "--attributes", "gendre"), "did you mean 'gender'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_cannot_be_tried_is_one_line(capsys, monkeypatch, tmp_path, arguments, message):
    monkeypatch.chdir(tmp_path)
    code, out, err = call(capsys, "test", *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err
