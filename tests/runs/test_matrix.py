"""Matrices of runs: their cells, what is made once, what fails alone, and that they go on."""

from contextlib import contextmanager

import pytest
import yaml

from fairbench.errors import UserError
from fairbench.models.text_to_image import TextToImage
from fairbench.plugins.registry import find_method
from fairbench.runs.matrix import Matrix, load_matrix, make_cells, run_cells
from fairbench.runs.run import run


def cells(small, *methods, **more):
    settings = small.settings(images_per_prompt=2)
    del settings["method"]
    return make_cells(Matrix(methods=methods, settings=settings, **more), {})


@contextmanager
def silent(cell):
    yield lambda stage, done, total: None


def write(tmp_path, **content):
    path = tmp_path / "table.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_cells_are_the_product_and_options_win_over_the_file(small, tmp_path):
    settings = small.settings(images_per_prompt=2)
    del settings["method"]
    path = write(
        tmp_path,
        methods=["original", "nudge[size=0.25]"],
        attributes=["gender", "gender,race"],
        seeds=[0, 1],
        settings=settings,
    )
    made = load_matrix(path, {"images_per_prompt": 5, "steps": None})
    assert len({cell.name for cell in made}) == len(made) == 8
    assert {cell.config.images_per_prompt for cell in made} == {5}
    assert {cell.config.steps for cell in made} == {2}
    assert made[-1].config.attributes == ("gender", "race") and made[-1].config.seed == 1
    assert made[-1].config.method_options == {"size": 0.25}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"methods": ["nudge", "nudge[]"]}, "the cell nudge-model-jobs-gender-s0 is there twice"),
        ({"methods": ["nudge"], "seeds": [1, 1]}, "is there twice: name it once"),
        ({"methods": ["nudge"], "attributes": ["gender,race", "race,gender"]}, "race+gender-s0 is there tw"),
        ({"methods": ["nudg"]}, "cell nudg x gender: unknown method 'nudg': did you mean 'nudge'"),
        ({"methods": ["nudge[sise=1]"]}, "unknown key 'sise': did you mean 'size'"),
        ({"methods": ["nudge["]}, "write it like name"),
        ({"methods": []}, "methods: Tuple should have at least 1 item"),
        ({"methods": ["nudge"], "attributes": ["gendre"]}, "unknown attribute 'gendre'"),
        ({"methods": ["nudge"], "seeds": [-1]}, "seed: Input should be greater"),
        ({"methods": ["nudge"], "sedes": [1]}, "unknown key 'sedes': did you mean 'seeds'"),
        ({"methods": ["nudge"], "settings": {"seed": 1}}, "settings: seed differs from cell to cell"),
        ({"methods": ["nudge"], "settings": {"stepz": 1}}, "unknown key 'stepz': did you mean 'steps'"),
        ({"seeds": [1]}, "methods: Field required"),
    ],
    ids=str,
)
def test_a_wrong_matrix_is_refused_whole(small, tmp_path, change, message):
    settings = small.settings()
    del settings["method"]
    content = {"methods": ["nudge"], **change}
    if "methods" not in change:
        del content["methods"]
    content["settings"] = settings | change.get("settings", {})
    with pytest.raises(UserError, match=r"table\.yaml") as caught:
        load_matrix(write(tmp_path, **content), {})
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_the_original_is_generated_once_and_every_cell_is_an_ordinary_run(small, tmp_path, monkeypatch):
    made = []
    real = TextToImage.generate

    def counted(self, prompts, seeds, **options):
        made.append(("hooks" not in options, len(prompts)))
        return real(self, prompts, seeds, **options)

    monkeypatch.setattr(TextToImage, "generate", counted)
    outcomes = run_cells(cells(small, "original", "nudge", "nudge[size=0.25]"), tmp_path, progress=silent)
    assert [outcome.state for outcome in outcomes] == ["done"] * 3
    assert sum(count for original, count in made if original) == 2 * 2  # prompts x images, once for all cells
    assert sum(count for original, count in made if not original) == 2 * 2 * 2
    first, second, _ = (
        sorted((outcome.directory / "images/original").rglob("*.png")) for outcome in outcomes
    )
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert first[0].samefile(second[0])
    made.clear()
    again = run_cells(cells(small, "original", "nudge", "nudge[size=0.25]"), tmp_path, progress=silent)
    assert not made and [outcome.metrics for outcome in again] == [outcome.metrics for outcome in outcomes]
    alone = run(outcomes[1].cell.config, tmp_path / "alone")
    assert alone["variants"]["nudge"]["bias"] == outcomes[1].metrics["variants"]["nudge"]["bias"]


def test_other_noise_is_another_original(small, tmp_path):
    outcomes = run_cells(cells(small, "original", seeds=(0, 1)), tmp_path, progress=silent)
    first, second = (sorted((outcome.directory / "images/original").rglob("*.png")) for outcome in outcomes)
    assert not any(a.samefile(b) for a, b in zip(first, second, strict=True))


def test_a_cell_that_fails_is_named_and_the_others_go_on(small, tmp_path, monkeypatch):
    method = find_method("nudge")
    fit = method.fit

    def sometimes(self, context):
        if self.config.size == 0.25:
            raise ZeroDivisionError("too  small")
        return fit(self, context)

    monkeypatch.setattr(method, "fit", sometimes)
    outcomes = run_cells(cells(small, "nudge[size=0.25]", "nudge"), tmp_path, progress=silent)
    assert [outcome.state for outcome in outcomes] == ["failed", "done"]
    assert outcomes[0].reason == "ZeroDivisionError: too small"
    monkeypatch.undo()
    monkeypatch.syspath_prepend(small.root / "plugin")
    assert [o.state for o in run_cells(cells(small, "nudge[size=0.25]"), tmp_path, progress=silent)] == [
        "done"
    ]


def test_what_a_method_cannot_do_is_skipped_with_its_reason(small, tmp_path, monkeypatch):
    method = find_method("nudge")
    monkeypatch.setattr(method, "supports", ("gender",), raising=False)
    made = cells(small, "nudge", attributes=("race", "gender"))
    outcomes = run_cells(made, tmp_path, progress=silent)
    assert [outcome.state for outcome in outcomes] == ["skipped", "done"]
    assert "does not support race" in outcomes[0].reason and not outcomes[0].directory.exists()


@pytest.mark.parametrize("hook", ["check", "check_task", "check_fit"])
def test_what_a_method_refuses_is_skipped_before_an_image_is_made(small, tmp_path, monkeypatch, hook):
    def refuse(*_):
        raise UserError("needs a larger model")

    monkeypatch.setattr(find_method("nudge"), hook, refuse, raising=False)
    outcomes = run_cells(cells(small, "nudge", seeds=(5,)), tmp_path, progress=silent)
    assert [(outcome.state, outcome.reason) for outcome in outcomes] == [("skipped", "needs a larger model")]
    assert not outcomes[0].directory.exists()


def test_a_plugin_that_cannot_be_loaded_is_skipped_and_the_others_go_on(small, tmp_path, monkeypatch):
    info = tmp_path / "plugin" / "bad-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: bad\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[fairbench.methods]\nbad = bad_plugin:Bad\n")
    (tmp_path / "plugin" / "bad_plugin.py").write_text("raise RuntimeError('no licence')\n")
    monkeypatch.syspath_prepend(tmp_path / "plugin")
    outcomes = run_cells(cells(small, "bad", "nudge"), tmp_path, progress=silent)
    assert [outcome.state for outcome in outcomes] == ["skipped", "done"]
    assert outcomes[0].reason == "method 'bad' of bad 1.0 cannot be loaded: RuntimeError: no licence"


def test_an_interruption_stops_all_and_the_same_call_goes_on(small, tmp_path):
    @contextmanager
    def interrupted(cell):
        def tell(stage, done, total):
            if cell.config.method == "nudge" and stage == "judging":
                raise KeyboardInterrupt

        yield tell

    made = cells(small, "original", "nudge")
    with pytest.raises(KeyboardInterrupt):
        run_cells(made, tmp_path, progress=interrupted)
    finished = (tmp_path / made[0].name / "status.json").stat().st_mtime_ns
    outcomes = run_cells(made, tmp_path, progress=silent)
    assert [outcome.state for outcome in outcomes] == ["done", "done"]
    assert (tmp_path / made[0].name / "status.json").stat().st_mtime_ns == finished
