"""``fairbench show``: one method, model, suite, judge, preset or finished run in full."""

import inspect
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer

from fairbench.cli.output import print_json, print_table, print_text
from fairbench.errors import unknown
from fairbench.storage import read_yaml


def show(
    name: Annotated[
        str, typer.Argument(help="A method, model, suite, judge or preset, or the directory of a run.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show a method with its options, a model, suite, judge or preset, or all that a run measured."""
    from fairbench.store.layout import RunDirectory

    if RunDirectory(Path(name)).finished:
        _show_run(Path(name), as_json)
        return
    shown = _find(name)
    if as_json:
        print_json(shown)
        return
    for key, value in shown.items():
        if key == "options":
            print_table(("option", "default", "type", "meaning"), [list(option.values()) for option in value])
        elif key == "description":
            print_text(f"\n{value}\n")
        elif key == "file":
            print_text(f"\n{value}", end="")
        elif key != "settings":
            print_text(f"{key}: {', '.join(map(str, value)) if isinstance(value, list | tuple) else value}")


def _show_run(directory: Path, as_json: bool) -> None:
    from fairbench.cli.result import print_groups, print_metrics
    from fairbench.store.load import load_run

    metrics = load_run(directory).metrics
    if as_json:
        print_json(metrics.to_json())
        return
    print_metrics(metrics)
    print_groups(metrics)


def _find(name: str) -> dict[str, Any]:
    from fairbench.judges import list_judges
    from fairbench.models.loading import list_models
    from fairbench.plugins.registry import list_methods
    from fairbench.presets import list_presets
    from fairbench.suites import list_suites

    kinds = (
        ([entry.name for entry in list_methods()], _method),
        (list_models(), _model),
        (list_suites(), _suite),
        (list_judges(), _judge),
        (list_presets(), _preset),
    )
    for names, describe in kinds:
        if name in names:
            return describe(name)
    if name.endswith((".yaml", ".yml")):
        return _judge(name) if "networks" in read_yaml(name) else _suite(name)
    raise unknown(
        "method, model, suite, judge or preset", name, [known for names, _ in kinds for known in names]
    )


def _method(name: str) -> dict[str, Any]:
    from fairbench.intervention import part
    from fairbench.plugins.registry import find_method

    method = find_method(name)
    options = [
        {
            "option": key,
            "default": field.get_default(call_default_factory=True),
            "type": _spelled(field.annotation),
            "meaning": field.description or "",
        }
        for key, field in method.Config.model_fields.items()
    ]
    return {
        "kind": "method",
        "name": name,
        "draw class": method.draw_class,
        "attributes": ", ".join(part(method, "supports") or ("any",)),
        "description": inspect.cleandoc(method.__doc__ or ""),
        "options": options,
    }


def _spelled(annotation: Any) -> str:
    """Write a type as a user types its values: ``int | none``, ``raw | official``."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _spelled(parts[0])
    if origin is Literal:
        return " | ".join(map(str, parts))
    if origin in (Union, UnionType):
        return " | ".join(_spelled(part) for part in parts)
    return "none" if annotation is NoneType else getattr(annotation, "__name__", str(annotation))


def _suite(name: str) -> dict[str, Any]:
    from fairbench.suites import load_suite

    suite = load_suite(name)
    return {"kind": "suite", "sha256": suite.sha256, **suite.model_dump(mode="json")}


def _judge(name: str) -> dict[str, Any]:
    from fairbench.judges import load_judge

    judge = load_judge(name)
    return {
        "kind": "judge",
        "name": judge.name,
        "sha256": judge.sha256,
        "attributes": judge.attributes,
        "confusion": judge.confusion,
    }


def _model(name: str) -> dict[str, Any]:
    from fairbench.models.loading import load_model

    model = load_model(name)
    defaults = model.defaults.model_dump() if hasattr(model, "defaults") else {}
    return {"kind": "model", "name": name, **defaults, "description": inspect.getdoc(type(model)) or ""}


def _preset(name: str) -> dict[str, Any]:
    from fairbench.presets import load_preset

    preset = load_preset(name)
    return {"kind": "preset", "name": name, "settings": preset.settings, "file": preset.text}
