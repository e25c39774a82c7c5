import re
import subprocess
import sys
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())
MAPPED = {"methods": "fairbench.methods", "baselines": "fairbench.baselines", "prompts": "fairbench.prompts"}


def test_every_package_is_installed():
    found = {
        ".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "fairbench").rglob("__init__.py")
    } | {
        ".".join((name, *path.parent.relative_to(ROOT / folder).parts))
        for folder, name in MAPPED.items()
        for path in (ROOT / folder).rglob("__init__.py")
    }
    assert set(SETTINGS["tool"]["setuptools"]["packages"]) == found


def test_every_file_of_data_is_installed():
    patterns = SETTINGS["tool"]["setuptools"]["package-data"]
    folders = {name: ROOT / name.replace(".", "/") for name in patterns} | {
        name: ROOT / folder for folder, name in MAPPED.items()
    }
    matched = {
        path for name, globs in patterns.items() for glob in globs for path in folders[name].glob(glob)
    }
    present = {
        path
        for folder in ("fairbench", *MAPPED)
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and path.suffix not in {".py", ".pyc"}
    }
    assert present == {path for path in matched if path.is_file()}


@pytest.mark.parametrize("group", ["fairbench.methods", "fairbench.models"])
def test_entry_points_lead_somewhere(group):
    names = SETTINGS["project"]["entry-points"][group]
    installed = {entry.name: entry for entry in entry_points(group=group)}
    for name in names:
        assert installed[name].load().name == name


def test_every_dependency_is_imported_and_has_its_reason():
    """pyarrow is what pandas writes parquet with; all others are imported by name."""
    named = {
        "huggingface-hub": "huggingface_hub",
        "open-clip-torch": "open_clip",
        "pillow": "PIL",
        "pot": "ot",
    }
    named |= {"pyyaml": "yaml"}
    sources = [path for room in ("fairbench", "methods", "baselines") for path in (ROOT / room).rglob("*.py")]
    imported = set(re.findall(r"^\s*(?:import|from) (\w+)", "\n".join(map(Path.read_text, sources)), re.M))
    reasons = (ROOT / "CONTRIBUTING.md").read_text().partition("## Dependencies")[2]
    for line in SETTINGS["project"]["dependencies"]:
        name = re.split(r"[<>=]", line)[0]
        assert name == "pyarrow" or named.get(name, name) in imported, f"nothing imports {name}"
        assert re.search(rf"^\|.*\b{name}\b.*\|$", reasons, re.M), f"CONTRIBUTING.md does not say why {name}"


def test_importing_the_package_loads_nothing_heavy():
    code = "import fairbench, fairbench.methods, fairbench.suites, fairbench.config, sys; print(*sys.modules)"
    modules = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"torch", "diffusers", "transformers", "pandas", "matplotlib"} & set(modules)


def test_the_version_is_that_of_the_distribution():
    import fairbench

    assert fairbench.__version__ == SETTINGS["project"]["version"]
    with pytest.raises(AttributeError, match="no attribute 'versoin'"):
        _ = fairbench.versoin
