"""The table of CONTRIBUTING.md holds: every room is in it, nothing imports upward, no two need each other."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOTS = {"fairbench": "fairbench", "methods": "fairbench.methods", "baselines": "fairbench.baselines"}


def floors():
    """Return room -> floor, of every line of the table; a room that is there twice is an error."""
    text = (ROOT / "CONTRIBUTING.md").read_text().partition("## Layout")[2].partition("\n## ")[0]
    lines = [line.split("|")[1:3] for line in text.splitlines() if re.match(r"\| \d", line)]
    listed = [(name, int(floor)) for floor, cell in lines for name in re.findall(r"`(\w+)`", cell)]
    assert len(listed) == len(dict(listed))
    return dict(listed)


def room(module):
    """Return the room of a module: what comes after ``fairbench``."""
    return [*module.split("."), "__init__"][1]


def modules():
    """Yield the name and the source of every module that is installed."""
    for folder, package in ROOTS.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            yield ".".join([package, *parts]).removesuffix(".__init__"), path.read_text()


def imports(source):
    """Yield the modules of ours that a source imports anywhere, also for its types alone."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "fairbench":
            bare = node.module == "fairbench"
            yield from (f"fairbench.{alias.name}" for alias in node.names) if bare else [node.module]
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "fairbench")


def arrows():
    """Return every pair of rooms of which the first imports from the second, with one module that does."""
    return {
        (room(module), room(needed)): module
        for module, source in modules()
        for needed in imports(source)
        if room(needed) != room(module)
    }


def test_every_room_is_in_the_table_once():
    assert set(floors()) == {room(module) for module, _ in modules()} | {"prompts"}


def test_nothing_imports_upward():
    height = floors()
    upward = [(module, needed) for (own, needed), module in arrows().items() if height[needed] > height[own]]
    assert upward == []


def test_no_two_rooms_need_each_other():
    needs = {}
    for own, needed in arrows():
        needs.setdefault(own, set()).add(needed)
    for start in needs:
        reached, left = set(), [*needs[start]]
        while left:
            now = left.pop()
            if now not in reached:
                reached.add(now)
                left += needs.get(now, ())
        assert start not in reached, f"{start} is needed by what it needs"


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from fairbench.runs.plan import Plan", ["fairbench.runs.plan"]),
        ("from fairbench import draws, suites", ["fairbench.draws", "fairbench.suites"]),
        ("def f():\n    import fairbench.cli.main", ["fairbench.cli.main"]),
        ("if TYPE_CHECKING:\n    from fairbench.runs.run import run", ["fairbench.runs.run"]),
        ("from fairbenchmark import x\nimport os", []),
    ],
)
def test_imports_are_seen_wherever_they_stand(source, found):
    assert list(imports(source)) == found
