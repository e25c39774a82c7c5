import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fairbench.attributes import ATTRIBUTES
from fairbench.errors import UserError
from fairbench.judges import Judgement, build_judge, load_judge, save_judge
from fairbench.judges.confusion import accuracy, confusion_counts, side_file, write_confusion
from fairbench.portraits.build.data import Pictures
from fairbench.portraits.build.judging import confusion
from fairbench.portraits.build.stages import JUDGES, Build
from fairbench.portraits.captions import draw_captioned
from fairbench.portraits.drawing import draw_people
from fairbench.portraits.world import roles
from tests.judges.checkpoints import write_judge

CONFIG = {
    "name": "tiny",
    "role": "evaluation",
    "architecture": "resnet18",
    "kwargs": {"channels": [8, 8, 8, 8], "layers": [1, 1, 1, 1], "stem_width": 8},
    "attributes": {"gender": ["female", "male"], "race": ["WMELH", "Black", "Indian", "Asian"]},
}
TONES = 10


def judgement(said, classes, face):
    return Judgement({"race": torch.eye(classes)[list(said)]}, torch.tensor(face).float())


def test_rows_are_the_truth_and_columns_what_was_said():
    found = confusion_counts(
        judgement([0, 1, 1, 2, 2, 2, 0], 3, [1, 1, 1, 1, 1, 0.4, 1]),
        {"race": torch.tensor([0, 0, 1, 2, 0, 0, -1]), "age": torch.tensor([1] * 7)},
    )
    assert found.keys() == {"race"}
    assert found["race"].tolist() == [[1, 1, 1], [0, 1, 0], [0, 0, 1]]
    assert accuracy(found["race"]) == 3 / 5
    assert accuracy(np.zeros((2, 2), int)) is None


@given(st.lists(st.tuples(st.integers(-1, 2), st.integers(0, 2), st.booleans()), min_size=1, max_size=40))
def test_every_known_image_with_a_face_is_counted_once_and_parts_add_up(rows):
    truth, said, face = zip(*rows, strict=True)
    whole = confusion_counts(judgement(said, 3, face), {"race": torch.tensor(truth)})["race"]
    expected = np.zeros((3, 3), int)
    for t, s, seen in rows:
        if seen and t >= 0:
            expected[t, s] += 1
    assert (whole == expected).all()
    halves = [
        confusion_counts(judgement(said[part], 3, face[part]), {"race": torch.tensor(truth[part])})["race"]
        for part in (slice(0, len(rows) // 2), slice(len(rows) // 2, None))
        if said[part]
    ]
    assert (sum(halves) == whole).all()


@pytest.fixture
def saved(tmp_path):
    torch.manual_seed(0)
    save_judge(build_judge(CONFIG), tmp_path / "tiny", {"gender": 0.9})
    return tmp_path / "tiny"


def test_counts_are_kept_in_judge_json_and_others_stay(saved):
    gender, race = np.array([[8, 2], [1, 9]]), 9 * np.eye(4, dtype=int) + 1
    assert load_judge(saved).confusion == {}
    assert write_confusion(saved, load_judge(saved), {"gender": gender}) == saved / "judge.json"
    write_confusion(saved, load_judge(saved), {"race": race})
    loaded = load_judge(saved)
    assert loaded.confusion == {"gender": ((8, 2), (1, 9)), "race": tuple(map(tuple, race.tolist()))}
    assert loaded.description.measured == {"gender": 0.9}


def test_a_new_judge_is_saved_with_its_counts(tmp_path):
    save_judge(build_judge(CONFIG), tmp_path, {}, {"gender": np.array([[3, 0], [1, 4]])})
    assert load_judge(tmp_path).confusion == {"gender": ((3, 0), (1, 4))}


@pytest.mark.parametrize(
    "confusion",
    [
        {"gender": [[1, 2]]},
        {"gender": [[1, 2, 3], [1, 2, 3]]},
        {"gender": [[1, -2], [0, 1]]},
        {"gender": [[1.5, 2], [0, 1]]},
        {"age": [[1, 2], [0, 1]]},
        {"gender": [[7, 3], [0, 0]]},
        {"gender": [[50, 50], [49, 51]]},
    ],
)
def test_counts_that_do_not_fit_the_labels_are_refused(saved, confusion):
    path = saved / "judge.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"confusion": confusion}))
    with pytest.raises(UserError, match="confusion") as error:
        load_judge(saved)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("counts", "message"),
    [([[7, 3], [0, 0]], "no labelled face is male"), ([[50, 50], [49, 51]], "hardly tells")],
)
def test_counts_that_correct_nothing_are_not_kept(saved, counts, message):
    before = (saved / "judge.json").read_bytes()
    with pytest.raises(UserError, match=f"nothing was kept: confusion of gender.*{message}"):
        write_confusion(saved, load_judge(saved), {"gender": np.array(counts)})
    assert (saved / "judge.json").read_bytes() == before


@pytest.fixture
def judge_file(tmp_path):
    return write_judge(tmp_path / "monk.yaml", {"kind": "skin_tone"})


def test_counts_of_a_judge_file_lie_beside_it_and_leave_its_sha256(judge_file):
    before = load_judge(judge_file)
    counts = np.eye(TONES, dtype=int) * 7
    assert write_confusion(judge_file, before, {"skin_tone": counts}) == side_file(judge_file)
    after = load_judge(judge_file)
    assert after.sha256 == before.sha256
    assert np.array_equal(after.confusion["skin_tone"], counts)


def test_counts_of_an_earlier_judge_file_are_refused(judge_file):
    write_confusion(judge_file, load_judge(judge_file), {"skin_tone": np.eye(TONES, dtype=int)})
    judge_file.write_text(judge_file.read_text().replace("mine", "other"))
    with pytest.raises(UserError, match="remove it, then measure again"):
        load_judge(judge_file)


@pytest.mark.parametrize(
    "content", ["{", "[]", "{}", '{"judge": 1}', '{"judge": "", "confusion": {"skin_tone": [[1]]}}']
)
def test_a_damaged_side_file_is_refused(judge_file, content):
    side_file(judge_file).write_text(content)
    with pytest.raises(UserError, match=r"monk\.confusion\.json"):
        load_judge(judge_file)


@pytest.fixture(scope="module")
def drawn():
    """200 pictures of the world as the build stores them."""
    rng = np.random.default_rng(5)
    people, captions = zip(*(draw_captioned(rng, list(roles().values())) for _ in range(200)), strict=True)
    labels = {name: torch.tensor([person.attributes[name] for person in people]) for name in ATTRIBUTES}
    labels["face"] = torch.tensor([int(person.face) for person in people])
    return Pictures(torch.from_numpy(draw_people(people)).permute(0, 3, 1, 2), list(captions), labels)


def test_the_build_counts_the_errors_of_judges_that_lack_the_counts(tmp_path, monkeypatch, drawn):
    monkeypatch.setattr("fairbench.portraits.build.stages.load_or_draw", lambda *place, seed: drawn)
    packaged = load_judge("portraits-eval-a")
    for name in JUDGES:
        save_judge(packaged, tmp_path / "judges" / name, packaged.description.measured)
    Build(tmp_path / "work", tmp_path, 0).confusions()
    path = tmp_path / "judges" / JUDGES[-1] / "judge.json"
    found, faces = load_judge(path.parent).confusion, int(drawn.labels["face"].sum())
    assert found.keys() == set(ATTRIBUTES)
    for name, counts in found.items():
        assert np.array_equal(counts, confusion(packaged, drawn)[name])
        assert np.trace(counts) / np.sum(counts) == pytest.approx(
            packaged.description.measured[name], abs=0.05
        )
        assert faces - 5 <= np.sum(counts) <= faces
    before = path.read_bytes()
    path.write_bytes(before.replace(b"\n  ", b"\n    "))
    Build(tmp_path / "work", tmp_path, 0).confusions()
    assert path.read_bytes() != before  # what has its counts is left alone


def test_the_counts_of_a_packaged_judge_go_into_a_copy_of_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = "portraits-eval-a"
    judge, counts = load_judge(name), {"gender": np.array([[90, 10], [20, 80]])}
    kept = write_confusion(name, judge, counts)
    assert kept == Path(name) / "judge.json"
    assert load_judge(f"./{name}").confusion["gender"] == ((90, 10), (20, 80))
    assert load_judge(name).sha256 == judge.sha256
    assert write_confusion(name, judge, counts) == kept
    (tmp_path / name / "model.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match="is no copy of the judge"):
        write_confusion(name, judge, counts)
