"""What `yaml` and `json` themselves make of a text, or one line where it is beyond the limits."""

import json

import pytest
import yaml

from fairbench.parsing import DEPTH, parse_json, parse_yaml

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{key}: &{key} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, key in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    "text",
    [
        "a: [1, {b: c}]\nd: 'two\n\n  lines'",
        "base: &base {steps: 2, seed: 1}\nrun: {<<: *base, seed: 2}\nagain: {<<: *base}",
        "base: &base {deep: &deep {x: 1}}\na: [*base, *base, *deep]",
        "a: " + "[" * (DEPTH - 1) + "]" * (DEPTH - 1),
        "",
    ],
)
def test_what_is_within_the_limits_is_read_as_by_safe_load(text):
    assert parse_yaml(text) == yaml.safe_load(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, "more than 200,000 values"),
        ("a: " + "[" * 5000 + "]" * 5000, "deep in line 1"),
        ("a: " + "[" * DEPTH + "]" * DEPTH, "deep in line 1"),
        ("{a: " * 5000, "deep"),
        ("- " * 5000 + "a", "deep"),
        ("? " * 5000, "deep"),
        ("a: &a [1, *a]", "inside what it stands for"),
        ("a: 1\nb: {c: 1, c: 2}", "the key 'c' is there twice in line 2"),
        ("a: 1\n'a': 2", "the key 'a' is there twice in line 2"),
        ("a: " + "9" * 5000, "more than 4000 characters"),
        ("a: 1" + ":1" * 5000, "more than 4000 characters"),
        ('a: "\\ud800"', "surrogate"),
        ("a: !!python/object/apply:os.getcwd []", "could not determine a constructor"),
    ],
)
def test_yaml_beyond_the_limits(text, message):
    with pytest.raises(ValueError, match=message) as caught:
        parse_yaml(text)
    assert "\n" not in str(caught.value)


def test_json_as_deep_as_yaml_may_be_and_no_deeper():
    deep = "[" * DEPTH + "]" * DEPTH
    assert parse_json(deep) == json.loads(deep)
    for text in (f"[{deep}]", "[" * 100_000 + "]" * 100_000, '{"a":' * 100_000):
        with pytest.raises(ValueError, match="64 deep"):
            parse_json(text)
