"""YAML and JSON of anybody's: within limits, so that no file takes all memory, and no key twice in YAML.

What is wrong is a ``ValueError`` whose message is one line.
"""

import json
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode

DEPTH = 64
"""Lists and mappings inside one another."""
NODES = 200_000
"""Values in YAML, what an alias (``*name``) stands for counted each time."""
WORD = 4000
"""Characters of a number or date: what is longer takes ages to compute."""
TEXT = "tag:yaml.org,2002:str"


def parse_yaml(text: str) -> Any:
    r"""Read YAML as ``yaml.safe_load`` does, within the limits.

    Examples
    --------
    >>> parse_yaml("seeds: [0, 1]")
    {'seeds': [0, 1]}
    >>> parse_yaml("seed: 0\nseed: 1")
    Traceback (most recent call last):
    ...
    ValueError: the key 'seed' is there twice in line 2
    """
    try:
        loader = _Loader(text)
        return loader.get_single_data()
    except yaml.MarkedYAMLError as error:
        line = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ValueError(f"{error.problem}{line}") from None
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None


def parse_json(text: str | bytes) -> Any:
    """Read JSON as ``json.loads`` does, within `DEPTH`.

    Examples
    --------
    >>> parse_json('{"seeds": [0, 1]}')
    {'seeds': [0, 1]}
    """
    try:
        content = json.loads(text)
    except RecursionError:
        raise ValueError(_deep()) from None
    inner = [content]
    for _ in range(DEPTH):
        inner = [value for outer in inner for value in _values(outer)]
    if any(isinstance(value, dict | list) for value in inner):
        raise ValueError(_deep())
    return content


class _Loader(yaml.SafeLoader):
    """Counts what it composes, before any of it is constructed."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.depth, self.count = 0, 0
        self.sizes: dict[int, int] = {}

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        before, alias = self.count, self.check_event(yaml.AliasEvent)
        self.depth += 1
        if self.depth > DEPTH and self.check_event(yaml.CollectionStartEvent):
            raise self._refused(_deep())
        node = super().compose_node(parent, index)
        self.depth -= 1
        if alias and id(node) not in self.sizes:
            raise self._refused("an alias stands inside what it stands for")
        self.count += self.sizes[id(node)] if alias else 1
        self.sizes.setdefault(id(node), self.count - before)
        if self.count > NODES:
            raise self._refused(f"there are more than {NODES:,} values, aliases written out")
        if isinstance(node, ScalarNode):
            self._check_word(node)
        return node

    def compose_mapping_node(self, anchor: Any) -> MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, ScalarNode):
                if (name := (key.tag, key.value)) in seen:
                    raise self._refused(f"the key {key.value!r} is there twice", key)
                seen.add(name)
        return node

    def _check_word(self, node: ScalarNode) -> None:
        if node.tag != TEXT and len(node.value) > WORD:
            raise self._refused(f"a number has more than {WORD} characters", node)
        if not node.value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in node.value):
            raise self._refused("half a character, a surrogate, is no text", node)

    def _refused(self, problem: str, node: Node | None = None) -> yaml.MarkedYAMLError:
        mark = node.start_mark if node else self.get_mark()
        return yaml.MarkedYAMLError(problem=problem, problem_mark=mark)


def _values(outer: Any) -> Any:
    if isinstance(outer, dict):
        return outer.values()
    return outer if isinstance(outer, list) else ()


def _deep() -> str:
    return f"lists and mappings are more than {DEPTH} deep"
