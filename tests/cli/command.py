"""The command line as a test types it."""

import pytest

from fairbench.cli.main import main


def call(capsys, *arguments):
    """Run ``fairbench`` with these arguments; return its exit code, output and errors."""
    with pytest.raises(SystemExit) as left:
        main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return left.value.code, captured.out, captured.err
