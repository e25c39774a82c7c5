from functools import partial

import pytest

from tests.cli.command import call
from tests.runs.small import built, small

__all__ = ["built", "fairbench", "small"]


@pytest.fixture
def fairbench(capsys, monkeypatch, tmp_path_factory):
    """Run a command line in an empty directory; returns its exit code, output and errors."""
    here = tmp_path_factory.mktemp("here")
    monkeypatch.chdir(here)

    def refused(*arguments):
        code, out, err = call(capsys, *arguments)
        assert (code, out) == (2, ""), err
        assert err.startswith("fairbench: ") and err.count("\n") == 1, err
        assert err.removesuffix("\n").isprintable(), err
        assert not list(here.iterdir())
        return err

    command = partial(call, capsys)
    command.refused = refused
    return command
