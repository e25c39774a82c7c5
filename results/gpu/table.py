"""Write the tables of README.md from all JSON files that lie here, one column for each.

`python results/gpu/table.py`, after measure.py.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fairbench.markdown import markdown_table, write_between_marks
from fairbench.report.tables import ABSENT

HERE = Path(__file__).parent
TITLES = {
    "right": "Right on a card",
    "main": "The main job",
    "sd15": "Stable Diffusion 1.5, random weights",
    "judges": "Judges and feature networks",
}
NOTHING = "No card has been measured yet.\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the files and write the page; return 0, or 2 where a file is not one of measure.py."""
    argparse.ArgumentParser(prog="table.py", description=__doc__).parse_args(arguments)
    records = {}
    for path in sorted(HERE.glob("*.json")):
        try:
            records[path.stem] = read(path)
        except ValueError as error:
            print(f"table.py: {path}: {error}: take it out, or measure again", file=sys.stderr)
            return 2
    write_between_marks(HERE / "README.md", page(records))
    print(f"{HERE / 'README.md'}: the tables of {len(records)} files")
    return 0


def read(path: Path) -> dict[str, Any]:
    """Read what measure.py wrote; a ``ValueError`` says what else it is."""
    record = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(record, dict) or not {"tiny", "machine", "parts"} <= record.keys():
        raise ValueError("is not a file of measure.py")
    return record


def page(records: Mapping[str, dict[str, Any]]) -> str:
    """Lay out the machines, then every part that was measured anywhere."""
    if not records:
        return NOTHING
    heads = [f"{name}, tiny" if record["tiny"] else name for name, record in records.items()]
    text = section("Measured with", heads, [record["machine"] for record in records.values()])
    for part, title in TITLES.items():
        found = [record["parts"].get(part, {}) for record in records.values()]
        text += "\n" + section(title, heads, found) if any(found) else ""
    return text


def section(title: str, heads: list[str], columns: list[dict[str, Any]]) -> str:
    """Lay out one row for every fact, then what is a table in itself."""
    names = dict.fromkeys(name for facts in columns for name in facts)
    rows = [[name, *(cell(facts.get(name)) for facts in columns)] for name in names]
    text = f"## {title}\n\n{markdown_table(['', *heads], rows)}\n"
    for head, facts in zip(heads, columns, strict=True):
        for name, entries in tables(facts):
            lines = [[cell(value) for value in entry.values()] for entry in entries]
            text += f"\n{name}, {head}:\n\n{markdown_table([*entries[0]], lines)}\n"
    return text


def cell(value: Any) -> str:
    """Lay out a fact: one value, or several with their names."""
    if isinstance(value, Mapping):
        single = {name: part for name, part in value.items() if not is_table(part)}
        return ", ".join(f"{name.replace('_', ' ')} {cell(part)}" for name, part in single.items())
    if isinstance(value, list):
        return "–".join(map(cell, value))
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    known = {None: ABSENT, True: "yes", False: "no"}
    return known[value] if value is None or isinstance(value, bool) else str(value)


def is_table(value: Any) -> bool:
    """Tell whether a value is a list of entries with the same names."""
    return isinstance(value, list) and bool(value) and isinstance(value[0], Mapping)


def tables(facts: Mapping[str, Any]) -> list[tuple[str, list[dict[str, Any]]]]:
    """Return what is a table in itself, with the name of the fact that it is in."""
    groups = [(name, group) for name, group in facts.items() if isinstance(group, Mapping)]
    return [(name, value) for name, group in groups for value in group.values() if is_table(value)]


if __name__ == "__main__":
    sys.exit(main())
