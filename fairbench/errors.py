"""The one exception that stands for a mistake the user can put right, and how such a mistake is worded.

Everything else that is raised is a fault of ours and keeps its traceback.
"""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError


class UserError(Exception):
    """A mistake the user can put right; its message is one line that says what to do.

    Examples
    --------
    >>> import fairbench
    >>> fairbench.load_model("portrait")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    fairbench.errors.UserError: unknown model 'portrait': did you mean 'portraits'? ...
    """


class Unsupported(UserError):
    """What a method cannot do, such as being loaded; a matrix of runs passes over it and says why."""


class Notice(UserWarning):
    """What a user should know of a result and how it is made; the command line shows its line."""


class CostWarning(Notice):
    """What makes a run slower than it could be and changes nothing else."""


def unknown(kind: str, name: str, known: Iterable[str]) -> UserError:
    """Word the error for a ``name`` that is not among the ``known`` ones, with the nearest of them."""
    known = sorted(known)
    lowered = {other.lower(): other for other in known}
    near = get_close_matches(str(name).lower(), lowered, n=1)
    hint = f": did you mean {lowered[near[0]]!r}?" if near else ";"
    return UserError(f"unknown {kind} {name!r}{hint} known: {', '.join(known) or 'none'}")


def one_line(error: BaseException, *, named: bool = False) -> str:
    """Return the message of an error in one line; with its type in front if ``named``."""
    text, kind = " ".join(str(error).split()), type(error).__name__
    return f"{kind}: {text}" if named else text or kind


def invalid(what: str, error: "ValidationError", known: Iterable[str] = ()) -> UserError:
    """Turn what pydantic found into one line: ``what``, then every faulty key and what is wrong with it.

    Parameters
    ----------
    what
        Where the settings came from, such as a file name; may be empty.
    error
        What pydantic raised.
    known
        The keys that exist, for a did-you-mean on an unknown one.
    """
    known = tuple(known)
    problems: dict[str, list[str]] = {}
    for problem in error.errors(include_url=False):
        key = ".".join(str(part) for part in problem["loc"] if not _names_a_type(part))
        if problem["type"] == "extra_forbidden":
            wrong = str(unknown("key", key, known)) if known else f"unknown key {key!r}"
            problems.setdefault("", []).append(wrong)
        else:
            problems.setdefault(key, []).append(problem["msg"].removeprefix("Value error, "))
    # of a value that may be of several types, each says what is wrong
    lines = [f"{key}: {', or '.join(each)}" if key else "; ".join(each) for key, each in problems.items()]
    return UserError(": ".join(filter(None, (what, "; ".join(lines)))))


def _names_a_type(part: int | str) -> bool:
    """Tell whether pydantic speaks of one of several types that a value may have, not of a key."""
    return str(part) in ("bool", "constrained-int", "int", "float", "str") or str(part).startswith("literal[")
