"""What a result is made of is known without loading it; a result of other files is neither kept nor mixed."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from fairbench.errors import UserError
from fairbench.features import load_features
from fairbench.judges import identify_judge, load_judge
from fairbench.networks import WEIGHTS
from fairbench.runs.evaluate import evaluate_images
from fairbench.runs.inputs import input_hashes
from fairbench.runs.run import run
from fairbench.store.load import load_run
from tests.judges.checkpoints import write_judge


@pytest.fixture
def own(small, tmp_path):
    """Settings of a run whose every file may be changed."""
    named = {"model": "model", "suite": "jobs.yaml", "training_judge": "judge-train"}
    lists = {"judges": ["judge-a"], "features": ["clip"], "training_features": ["ssl"]}
    for name in [*named.values(), *(name for names in lists.values() for name in names)]:
        (shutil.copytree if (small.root / name).is_dir() else shutil.copyfile)(
            small.root / name, tmp_path / name
        )
    placed = {key: str(tmp_path / name) for key, name in named.items()}
    return small.settings(
        **placed, **{key: [str(tmp_path / name) for name in names] for key, names in lists.items()}
    )


def test_networks_are_identified_as_when_they_are_loaded(small, tmp_path):
    found = input_hashes(small.config(), trains=True, others={})
    judges = [load_judge(small.root / name) for name in ("judge-a", "judge-b", "judge-train")]
    assert found["judges"] | found["training_judge"] == {judge.name: judge.sha256 for judge in judges}
    networks = [load_features(small.root / name) for name in ("clip", "ssl")]
    assert found["features"] == {network.name: network.sha256 for network in networks}
    written = write_judge(tmp_path / "monk.yaml", {"kind": "skin_tone"})
    loaded = load_judge(written)
    assert identify_judge(written) == (loaded.name, loaded.sha256)
    named_only = small.config(model="portraits-renderer", method="original")
    assert input_hashes(named_only, others={})["model"] == {"portraits-renderer": None}
    assert input_hashes(named_only, others={})["training_judge"] == {}


def touch(path):
    """Change a file without breaking it: one space more, or the last byte of the weights another."""
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]) if path.name == WEIGHTS else content + b"\n")


@pytest.mark.parametrize("finished", [True, False])
def test_other_files_under_the_same_names_are_another_run(small, own, tmp_path, finished):
    config = small.config(**own)
    metrics = run(config, tmp_path / "run")
    if not finished:
        (tmp_path / "run" / "status.json").unlink()
    provenance = json.loads((tmp_path / "run" / "provenance.json").read_text())
    other = {"threads": 99, "packages": {}, "git": None, "python": "2.7"}
    (tmp_path / "run" / "provenance.json").write_text(json.dumps(provenance | other))
    changes = {
        f"judge-a/{WEIGHTS}": "judges judge-a",
        "judge-train/judge.json": "training judge judge-train",
        f"clip/{WEIGHTS}": "features clip",
        "ssl/features.json": "training features ssl",
        "model/model_index.json": f"model {own['model']}",
    }
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    for name, said in changes.items():
        content = (tmp_path / name).read_bytes()
        touch(tmp_path / name)
        with pytest.raises(UserError, match=rf"made of other files \({said}\): replace it with --fresh"):
            run(config, tmp_path / "run")
        (tmp_path / name).write_bytes(content)
    suite = (tmp_path / "jobs.yaml").read_text()
    (tmp_path / "jobs.yaml").write_text(suite.replace("face of", "the face of"))
    with pytest.raises(UserError, match=r"\(suite\)"):
        run(config, tmp_path / "run")
    assert before == {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert run(config, tmp_path / "run", fresh=True)["variants"].keys() == metrics["variants"].keys()
    (tmp_path / "jobs.yaml").write_text(suite)
    with pytest.raises(UserError, match=r"\(suite\)"):
        run(config, tmp_path / "run")


def test_an_adapter_that_was_trained_anew_is_another(small, own, tmp_path):
    run(small.config(**own), tmp_path / "run")
    config = small.config(**own, adapter=str(tmp_path / "run" / "adapter"))
    metrics = run(config, tmp_path / "e")
    assert run(config, tmp_path / "e") == metrics
    run(small.config(**own | {"method_options": {"size": 0.25}}), tmp_path / "run", fresh=True)
    with pytest.raises(UserError, match=r"\(adapter\)"):
        run(config, tmp_path / "e")


def test_a_run_of_an_earlier_version_is_asked_only_for_what_it_wrote_down(small, own, tmp_path):
    config = small.config(**own)
    metrics = run(config, tmp_path / "run")
    path = tmp_path / "run" / "provenance.json"
    path.write_text(json.dumps({"schema_version": 1, "sha256": {}}))
    (tmp_path / "run" / "manifest.json").unlink()
    touch(tmp_path / "judge-a" / WEIGHTS)
    assert run(config, tmp_path / "run") == metrics


def test_originals_of_another_model_of_the_same_name_are_not_taken_over(small, own, tmp_path):
    config = small.config(**own | {"method": "original"})
    run(config, tmp_path / "one")
    touch(tmp_path / "model" / "model_index.json")
    run(config, tmp_path / "other", originals=[tmp_path / "one"])
    run(config, tmp_path / "same", originals=[tmp_path / "other"])
    inodes = [
        (tmp_path / name / "images" / "original" / "cook" / "0.png").stat().st_ino
        for name in ("one", "other", "same")
    ]
    assert inodes[0] != inodes[1] == inodes[2]


def test_what_originals_cost_is_taken_over_with_them(small, tmp_path):
    """Two steps with guidance are four rows, in whichever run they were made."""
    run(small.config(method="original"), tmp_path / "made")
    run(small.config(method="original"), tmp_path / "taken", originals=[tmp_path / "made"])
    counted = [load_run(tmp_path / name).provenance["unet_rows"]["per_image"] for name in ("made", "taken")]
    assert counted == [{"original": 4}, {"original": 4}]


def test_changed_images_and_labels_are_measured_anew(small, tmp_path):
    def picture(value):
        Image.fromarray(np.full((64, 64, 3), value, np.uint8)).save(tmp_path / "images" / "0.png")

    (tmp_path / "images").mkdir()
    picture(0)
    table = tmp_path / "t.csv"
    table.write_text("path,prompt,gender\nimages/0.png,a,male\n")
    settings = small.settings(method="original", suite="own", model="somebodys")
    for source in (tmp_path / "images", table):
        config = small.config(**settings | {"images": str(source)})
        metrics = evaluate_images(config, tmp_path / f"of-{source.name}")
        assert evaluate_images(config, tmp_path / f"of-{source.name}") == metrics
    table.write_text("path,prompt,gender\nimages/0.png,a,female\n")
    with pytest.raises(UserError, match=r"\(table\)"):
        evaluate_images(config, tmp_path / "of-t.csv")
    picture(1)
    config = config.model_copy(update={"images": str(tmp_path / "images")})
    with pytest.raises(UserError, match=r"\(images\).*--fresh"):
        evaluate_images(config, tmp_path / "of-images")
    assert evaluate_images(config, tmp_path / "of-images", fresh=True)["primary_judge"] == "judge-a"
