import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from fairbench.config import RunConfig, load_config, make_config, spec
from fairbench.errors import UserError


def test_a_file_is_read_and_overridden(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("attributes: gender,age\ntarget: gender=.25/.75\nguidance: 3\nseed: 7\n")
    config = load_config(path, {"seed": 8, "updates": None})
    assert config.attributes == ("gender", "age")
    assert config.target == {"gender": (0.25, 0.75), "age": (0.5, 0.5)}
    assert (config.guidance, config.seed, config.updates) == (3.0, 8, None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("metod: x", "unknown key 'metod': did you mean 'method'"),
        ("images_per_prompt: many", "images_per_prompt: .*integer"),
        ("images_per_prompt: 0", "images_per_prompt: .*greater than or equal to 1"),
        ("images_per_prompt: -3", "images_per_prompt: "),
        ("images_per_prompt: 1.5", "images_per_prompt: "),
        ("updates: 0", "updates: "),
        ("test_prompts: 0", "test_prompts: "),
        ("steps: 0", "steps: "),
        ("seed: -1", "seed: "),
        ("guidance: .nan", "guidance: .*finite"),
        ("judges: portraits-eval-a", "judges: "),
        ("method: [a]", "method: .*string"),
        ("method_options: 3", "method_options: "),
        ("method_options: {when: 2024-01-01}", "method_options.when"),
        ("attributes: gendr", "unknown attribute 'gendr': did you mean 'gender'"),
        ("attributes: [3]", "unknown attribute '3'"),
        ("target: fair", "write it like"),
        ("target: {gender: [0.5, 0.6]}", "sum to 1.1"),
        ("target: {race: [1, 0, 0, 0]}", "unknown target attribute 'race'"),
        ("seed: [", "not YAML"),
        ("just words", "must hold keys"),
    ],
)
def test_a_faulty_file_is_refused_in_one_line_that_names_it(tmp_path, text, message):
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        load_config(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        load_config(tmp_path / "run.yaml")


def test_settings_do_not_change_after():
    with pytest.raises(ValidationError, match="frozen"):
        RunConfig().seed = 3  # type: ignore[misc]


def test_the_same_settings_have_the_same_digest():
    defaults = make_config({})
    assert defaults.digest() == RunConfig(method="biased_dft").digest()
    assert defaults.digest() == RunConfig.model_validate(json.loads(defaults.model_dump_json())).digest()
    written = [
        make_config({"method_options": options, "attributes": attributes, "target": target})
        for options in ({"a": 1, "b": 2}, {"b": 2, "a": 1})
        for attributes in ("gender", ["gender"])
        for target in ("gender=0.25/0.75", {"gender": [0.25, 0.75]})
    ]
    assert len({config.digest() for config in written}) == 1


def test_any_other_setting_has_another_digest():
    changes = [
        {},
        {"seed": 1},
        {"updates": 3},
        {"attributes": "race"},
        {"target": "gender=1/0"},
        {"guidance": 2},
    ]
    assert len({make_config(change).digest() for change in changes}) == len(changes)


@pytest.mark.parametrize(
    ("text", "name", "options"),
    [
        ("biased_dft", "biased_dft", {}),
        ("biased_dft[]", "biased_dft", {}),
        ("biased_dft[rank=8, lr=1e-3]", "biased_dft", {"rank": 8, "lr": 1e-3}),
        (
            "m[a=true,b=None,c=-.5,d=raw,e=nan]",
            "m",
            {"a": True, "b": None, "c": -0.5, "d": "raw", "e": "nan"},
        ),
        ("org/name@v1.0", "org/name@v1.0", {}),
    ],
)
def test_spec_reads_a_name_and_its_options(text, name, options):
    assert spec(text) == (name, options)


names = st.from_regex(r"[a-z_]\w*", fullmatch=True)


@given(
    names,
    st.dictionaries(names, st.integers() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False)),
)
def test_spec_undoes_writing_it(name, options):
    text = ",".join(f"{key}={value!r}" for key, value in options.items())
    assert spec(f"{name}[{text}]") == (name, options)


@pytest.mark.parametrize(
    "text", ["", "[a=1]", "m[a=1", "m[a]", "m[=1]", "m[a=]", "m[a=1,a=2]", "m[a=1]x", "m[a=[1]]"]
)
def test_a_faulty_spec_is_refused(text):
    with pytest.raises(UserError, match=r"write|give"):
        spec(text)
