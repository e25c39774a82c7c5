"""``fairbench``: the commands put together, and the one place where errors become a line and an exit code."""

import errno
import os
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from fairbench.cli import (
    check,
    compare,
    contract,
    diagnose,
    evaluate,
    export,
    judges,
    listing,
    plan,
    run,
    score,
    show,
    validate,
)
from fairbench.cli.output import print_text, print_traceback, say
from fairbench.errors import Notice, UserError

INTERRUPTED = 130
_OF_THE_USER = (errno.ENAMETOOLONG, errno.ELOOP, errno.EACCES, errno.EPERM, errno.EROFS)
"""Errors of the system about a path that another path would not have."""

app = typer.Typer(
    name="fairbench",
    help="Measure and remove demographic bias in text-to-image diffusion models.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command("run")(run.run)
app.command("evaluate")(evaluate.evaluate)
app.command("score")(score.score)
app.command("compare")(compare.compare)
app.command("check")(check.check)
app.command("plan")(plan.plan)
app.command("test")(contract.test)
app.command("validate")(validate.validate)
app.command("export")(export.export)
app.command("list")(listing.list_)
app.command("show")(show.show)
app.add_typer(judges.app, name="judges")
app.add_typer(diagnose.app, name="diagnose")


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print_text(f"fairbench {version('fairbench-t2i')}")
        raise typer.Exit


@app.callback()
def _fairbench(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Measure and remove demographic bias in text-to-image diffusion models."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; leave with 0 (done), 1 (failed), 2 (a mistake of the user) or 130 (Ctrl-C)."""
    sys.exit(_run(arguments))


def _run(arguments: list[str] | None) -> int:
    _open_streams()
    try:
        _refuse_a_namesake()
        _check(sys.argv[1:] if arguments is None else arguments)
        with _notices_as_lines():
            code = app(arguments, prog_name="fairbench", standalone_mode=False)
        sys.stdout.flush()
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except BrokenPipeError:
        return _seen_enough()
    except SystemExit as error:  # of a plugin: whatever code it leaves with, nothing was done
        if isinstance(error.__context__, BrokenPipeError):  # which typer turns into this
            return _seen_enough()
        say(f"failed: what was called left Python with {error.code!r}")
        return 1
    except Exception as error:
        return _report(error)
    if code == INTERRUPTED:
        say("interrupted; what is done is kept, and the same command goes on from there")
    return code if isinstance(code, int) else 0


def _seen_enough() -> int:
    """Leave without a word: the reader, such as ``head``, is gone; what is still buffered goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1


def _report(error: Exception) -> int:
    """Say what went wrong in one line and return the exit code; a fault of ours shows its traceback."""
    from fairbench.storage import is_full_disk

    if is_full_disk(error):
        say("the disk is full: make space, and the same command goes on from where it stopped")
        return 1
    if isinstance(error, UserError):
        say(str(error))
        return 2
    if hasattr(error, "format_message"):  # a usage error of the command line's parser
        if message := error.format_message():  # empty where the help was shown instead
            say(message)
        return 2
    if isinstance(error, OSError) and error.errno in _OF_THE_USER:
        say(f"{error.filename or 'a path'}: {error.strerror}: name another path")
        return 2
    print_traceback(error)
    say(f"failed: {type(error).__name__}: {error}")
    return 1


@contextmanager
def _notices_as_lines() -> Iterator[None]:
    """Show our own warnings as lines of ours, and those of the libraries as Python does."""
    show = warnings.showwarning

    def ours_as_lines(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        if issubclass(category, Notice):
            say(f"warning: {message}")
        else:
            show(message, category, *where, **more)

    with warnings.catch_warnings():
        warnings.showwarning = ours_as_lines
        warnings.simplefilter("always", Notice)  # also of the second run of a process
        yield


def _open_streams() -> None:
    """Let output that is closed go nowhere, and characters that it cannot write become question marks."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115, PTH123 open to the end
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")


def _check(arguments: list[str]) -> None:
    """Refuse what no command could be given: text that is not UTF-8, and an empty path."""
    for text in arguments:
        if not re.fullmatch(r"[^\ud800-\udfff]*", text, re.DOTALL):
            raise UserError(f"{text}: is not UTF-8; rename it, or write it in UTF-8")
    empty = [before for before, after in pairwise(arguments) if after == ""]
    empty += [text[:-1] for text in arguments if re.fullmatch("--[a-z-]+=", text)]
    if found := [option for option in empty if option in _paths(app)]:
        raise UserError(f"{found[0]} is empty: name a path, or leave it out")


def _paths(app: typer.Typer) -> Iterator[str]:
    """Yield the options of all commands that take a path: an empty one would be the current directory."""
    for command in app.registered_commands:
        for name, kind in get_type_hints(command.callback).items():
            if kind in (Path, Path | None):
                yield f"--{name.replace('_', '-')}"
    for group in app.registered_groups:
        yield from _paths(group.typer_instance or app)


def _refuse_a_namesake() -> None:
    """Refuse to start where another project also installs the package ``fairbench``: the two mix files."""
    from importlib.metadata import packages_distributions

    owners = sorted(set(packages_distributions().get("fairbench", [])))
    if len(owners) > 1:
        raise UserError(
            f"the package fairbench is installed by {' and '.join(owners)}; they overwrite each other: "
            "uninstall them all, then install fairbench-t2i alone"
        )
