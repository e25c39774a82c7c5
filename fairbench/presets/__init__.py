"""The experiments of arXiv 2311.07604 as ordinary settings files, for Stable Diffusion and for portraits.

Each can be copied, changed and given to ``fairbench run --config``.
"""

from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from fairbench.errors import UserError, unknown
from fairbench.storage import parse_yaml

FAMILY = "-portraits"
"""Ends the name of a preset for models of the portraits family."""


@dataclass(frozen=True)
class Preset:
    """A settings file that comes with the package."""

    name: str
    text: str

    @property
    def summary(self) -> str:
        """The first line of the comment that it begins with."""
        return self.text.partition("\n")[0].lstrip("# ")

    @property
    def settings(self) -> dict[str, Any]:
        """What it sets, to be checked by `fairbench.config.make_config`."""
        return parse_yaml(self.text, f"preset {self.name}")


def list_presets() -> list[str]:
    """Names of the presets, those of one experiment beside each other."""
    names = (entry.name for entry in files("fairbench.presets").iterdir())
    return sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml"))


def load_preset(name: str) -> Preset:
    """Return the preset called ``name``.

    Raises
    ------
    UserError
        There is none.
    """
    if name not in list_presets():
        raise unknown("preset", name, list_presets())
    return Preset(name, (files("fairbench.presets") / f"{name}.yaml").read_text(encoding="utf-8"))


def preset_for(name: str, model: str | None, of_the_family: bool) -> Preset:
    """Return the preset that fits ``model``: of ``exp-1``, the portraits variant for a model of that family.

    Parameters
    ----------
    name
        Of a preset.
    model
        What is named beside it, None for the model of the preset.
    of_the_family
        Whether ``model`` is of the portraits family.

    Raises
    ------
    UserError
        There is no such preset, or it is for models of the portraits family and ``model`` is not.
    """
    preset = load_preset(name)
    if model is None or of_the_family == name.endswith(FAMILY):
        return preset
    if of_the_family:
        return load_preset(name + FAMILY)
    other = name.removesuffix(FAMILY)
    raise UserError(f"preset {name} is for models of the portraits family: for {model} use --preset {other}")
