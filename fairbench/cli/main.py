"""``fairbench``: the commands put together, and the one place where errors become a line and an exit code."""

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

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
from fairbench.errors import Notice, UserError

INTERRUPTED = 130

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

        typer.echo(f"fairbench {version('fairbench-t2i')}")
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
    try:
        _refuse_a_namesake()
        with _notices_as_lines():
            code = app(arguments, prog_name="fairbench", standalone_mode=False)
        sys.stdout.flush()
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except (
        BrokenPipeError
    ):  # the reader, such as `head`, has seen enough; what is still buffered goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        return _report(error)
    if code == INTERRUPTED:
        _say("interrupted; what is done is kept, and the same command goes on from there")
    return code if isinstance(code, int) else 0


def _report(error: Exception) -> int:
    """Say what went wrong in one line and return the exit code; a fault of ours shows its traceback."""
    from fairbench.storage import is_full_disk

    if is_full_disk(error):
        _say("the disk is full: make space, and the same command goes on from where it stopped")
        return 1
    if isinstance(error, UserError):
        _say(str(error))
        return 2
    if hasattr(error, "format_message"):  # a usage error of the command line's parser
        if message := error.format_message():  # empty where the help was shown instead
            _say(message)
        return 2
    import traceback

    traceback.print_exc()
    _say(f"failed: {type(error).__name__}: {error}")
    return 1


@contextmanager
def _notices_as_lines() -> Iterator[None]:
    """Show our own warnings as lines of ours, and those of the libraries as Python does."""
    show = warnings.showwarning

    def ours_as_lines(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        if issubclass(category, Notice):
            _say(f"warning: {message}")
        else:
            show(message, category, *where, **more)

    with warnings.catch_warnings():
        warnings.showwarning = ours_as_lines
        warnings.simplefilter("always", Notice)  # also of the second run of a process
        yield


def _say(message: str) -> None:
    print(f"fairbench: {' '.join(message.split())}", file=sys.stderr)


def _refuse_a_namesake() -> None:
    """Refuse to start where another project also installs the package ``fairbench``: the two mix files."""
    from importlib.metadata import packages_distributions

    owners = sorted(set(packages_distributions().get("fairbench", [])))
    if len(owners) > 1:
        raise UserError(
            f"the package fairbench is installed by {' and '.join(owners)}; they overwrite each other: "
            "uninstall them all, then install fairbench-t2i alone"
        )
