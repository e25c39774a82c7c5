"""Finds methods through the entry points ``fairbench.methods``, ours and anybody's alike.

Listing reads names and docstrings without importing a method, so that it stays quick; a broken plugin is
named and passed over.
"""

import ast
import importlib.util
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from importlib.metadata import EntryPoint, entry_points
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, cast

from fairbench.errors import Unsupported, UserError, one_line, unknown

if TYPE_CHECKING:
    from fairbench.intervention import Method

GROUP = "fairbench.methods"


@dataclass(frozen=True)
class MethodEntry:
    """What is known of a method without importing it; ``problem`` says why it cannot be used."""

    name: str
    package: str
    summary: str = ""
    problem: str | None = None


def list_methods() -> list[MethodEntry]:
    """Name every method installed, in order of name, without importing any.

    Examples
    --------
    >>> import fairbench
    >>> "biased_dft" in [method.name for method in fairbench.list_methods()]
    True
    """
    return [_describe(point) for point in _entries()]


def find_method(name: str) -> "type[Method]":
    """Return the class of the method called ``name``.

    Raises
    ------
    UserError
        Nobody or more than one package provides it, or it lacks a part.
    Unsupported
        It cannot be loaded.
    """
    from fairbench.intervention import lacking

    points = [point for point in _entries() if point.name == name]
    if not points:
        raise unknown("method", name, _usable_names())
    if len(points) > 1:
        owners = " and ".join(_package(point) for point in points)
        raise UserError(f"two packages provide the method {name!r}, {owners}: uninstall one of them")
    try:
        method = points[0].load()
    except (
        Exception,
        SystemExit,
    ) as error:  # whatever a plugin does on import, its name belongs in the message
        raise Unsupported(
            f"method {name!r} of {_package(points[0])} cannot be loaded: {one_line(error, named=True)}"
        ) from error
    if missing := lacking(method):
        raise UserError(f"method {name!r} of {_package(points[0])} lacks {', '.join(missing)}")
    return cast("type[Method]", method)


def method_in(path: Path) -> "type[Method]":
    """Return the class of the one method that the Python file ``path`` defines.

    Raises
    ------
    UserError
        The file is missing or cannot be imported, or it defines no method, or several.
    """
    from fairbench.intervention import INTERFACE, lacking

    if not path.is_file():
        raise UserError(f"{path}: there is no such file")
    spec = importlib.util.spec_from_file_location(f"fairbench_method_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise UserError(f"{path}: is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses and pydantic look a class's module up
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise UserError(f"{path} cannot be loaded: {one_line(error, named=True)}") from error
    own = [kind for kind in vars(module).values() if getattr(kind, "__module__", "") == spec.name]
    methods = [kind for kind in own if isinstance(kind, type) and not lacking(kind)]
    if len(methods) != 1:
        found = ", ".join(kind.__name__ for kind in methods) or "none"
        raise UserError(f"{path}: holds {found}; one class with {', '.join(INTERFACE)} is needed")
    return cast("type[Method]", methods[0])


def _entries() -> list[EntryPoint]:
    """Every entry point once: an editable install beside a source tree shows the same one twice."""
    unique = {(point.name, point.value): point for point in entry_points(group=GROUP)}
    return sorted(unique.values(), key=lambda point: point.name)


def _usable_names() -> Iterable[str]:
    return [entry.name for entry in list_methods() if entry.problem is None]


def _describe(point: EntryPoint) -> MethodEntry:
    try:
        return MethodEntry(point.name, _package(point), summary=_docstring(point).partition("\n")[0])
    except Exception as error:  # a broken plugin must not take the others with it
        return MethodEntry(point.name, _package(point), problem=one_line(error, named=True))


def _docstring(point: EntryPoint) -> str:
    spec = _found(point.module)
    if spec is None or spec.origin is None:
        raise ImportError(f"no module {point.module}")
    if not spec.origin.endswith(".py"):
        return ""  # compiled
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == point.attr:
            return ast.get_docstring(node) or ""
        if isinstance(node, ast.ImportFrom) and point.attr in {
            name.asname or name.name for name in node.names
        }:
            return ""  # defined elsewhere; to look there would be to import it
    raise ImportError(f"no class {point.attr} in {point.module}")


def _found(module: str) -> ModuleSpec | None:
    """Find a module like `importlib.util.find_spec`, which would import the packages around it."""
    spec, places = None, None
    for name in accumulate(module.split("."), "{}.{}".format):
        if spec and places is None:
            return None
        found = (finder.find_spec(name, places) for finder in sys.meta_path)
        if (spec := next(filter(None, found), None)) is None:
            return None
        places = spec.submodule_search_locations
    return spec


def _package(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else "an unknown package"
