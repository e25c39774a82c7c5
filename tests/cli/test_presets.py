"""The presets on the command line."""

import json

import pytest
import yaml

from fairbench.config import make_config
from fairbench.presets import list_presets, load_preset
from tests.cli.command import call


def test_they_are_listed_and_shown_as_the_files_that_they_are(capsys):
    _, out, _ = call(capsys, "list", "presets", "--json")
    assert [row["name"] for row in json.loads(out)] == list_presets()
    code, out, _ = call(capsys, "show", "exp-3")
    assert code == 0 and out.endswith(load_preset("exp-3").text)
    _, out, _ = call(capsys, "show", "exp-3", "--json")
    assert json.loads(out)["settings"] == yaml.safe_load(load_preset("exp-3").text)


@pytest.fixture
def settings_of(capsys, tmp_path, monkeypatch):
    """Return the settings and the directory that a command line would run with."""
    from fairbench.runs import run as runner

    monkeypatch.chdir(tmp_path)

    def settings_of(*arguments):
        seen = []

        def stop(settings, out, **_):
            seen.append((settings, out))
            raise KeyboardInterrupt

        monkeypatch.setattr(runner, "run", stop)
        call(capsys, "run", *arguments)
        return seen[0]

    return settings_of


def test_options_beside_a_preset_win_and_the_model_chooses_the_variant(settings_of):
    settings, out = settings_of(
        "--preset", "exp-6", "--model", "portraits", "--updates", "7", "--seed", "2"
    )  # fmt: skip
    expected = load_preset("exp-6-portraits").settings | {"updates": 7, "seed": 2}
    assert settings == make_config(expected)
    assert str(out) == "runs/exp-6-s2"
    settings, _ = settings_of("--preset", "exp-6-portraits", "--method", "original")
    assert (settings.method, settings.method_options) == ("original", {})


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("sd", {"scheduler": "dpm"}),
        ("sd[dtype=float16]", {"scheduler": "dpm", "dtype": "float16"}),
        ("sd[scheduler=none]", {"scheduler": None}),
        ("portraits", {}),
    ],
)
def test_a_preset_samples_another_model_as_its_own(settings_of, model, options):
    settings, _ = settings_of("--preset", "exp-1", "--model", model)
    assert (settings.model, settings.model_options) == (model.partition("[")[0], options)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--preset", "exp-9"), "unknown preset 'exp-9'"),
        (("--preset", "exp-1-portraits", "--model", "org/sd@main"), "use --preset exp-1"),
        (("--preset", "exp-1", "--config", "mine.yaml"), "give --preset or --config, not both"),
        (("--preset", "exp-4-portraits", "--attributes", "gender"), "preset exp-4-portraits"),
        (("--stop-on", "unstabel"), "did you mean 'unstable'"),
        (("--stop-on", "overfitting"), "unknown monitor"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(capsys, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    code, out, err = call(capsys, "run", *arguments)
    assert (code, out) == (2, "") and message in err and err.count("\n") == 1
    assert not list(tmp_path.iterdir())
