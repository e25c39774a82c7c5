"""The records of a run: every image as judges and feature networks see it, at any number at once."""

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import load_file

from fairbench.features import load_features
from fairbench.judges import Judgement, load_judge
from fairbench.scoring import judging
from fairbench.scoring.judging import Instruments, judged, look, record, similarities
from tests.runs.folders import picture


def test_the_records_have_one_row_per_image_and_the_same_noise_in_both_variants(done):
    out, _, _ = done
    records = pd.read_parquet(out / "records.parquet")
    original, debiased = (records[records["variant"] == name] for name in ("original", "nudge"))
    assert len(original) == len(debiased) == 6
    for column in ("prompt_id", "prompt", "concept", "image_index", "seed"):
        assert list(original[column]) == list(debiased[column])
    assert records["seed"].nunique() == 6
    assert all((out / image).is_file() for image in records["image"])
    for judge in ("judge-a", "judge-b", "judge-train"):
        for attribute, classes in (("gender", 2), ("race", 4)):
            columns = [name for name in records if name.startswith(f"{judge}/{attribute}/")]
            assert len(columns) == classes
            np.testing.assert_allclose(records[columns].sum(axis=1), 1, rtol=1e-5)
        known = records["concept"] == "cook"
        assert records[f"{judge}/recognised"].notna().equals(known)
    assert "drawn" not in records
    assert original[["clip_i", "dino"]].isna().all(axis=None)
    assert debiased[["clip_t", "clip_i", "dino"]].notna().all(axis=None)


def test_similarities_are_the_cosines_of_the_stored_features(done):
    out, _, _ = done
    records, features = pd.read_parquet(out / "records.parquet"), load_file(out / "features.safetensors")
    for network, column in (("clip", "clip_i"), ("ssl", "dino")):
        a, b = features[f"{network}/original"].astype(float), features[f"{network}/nudge"].astype(float)
        expected = (a * b).sum(1) / np.sqrt((a**2).sum(1) * (b**2).sum(1))
        np.testing.assert_allclose(records.loc[records["variant"] == "nudge", column], expected, rtol=1e-4)


@pytest.fixture
def instruments(small):
    def load(kind, names):
        return tuple(kind(str(small.root / name)) for name in names)

    judges, features = load(load_judge, ("judge-a", "judge-b")), load(load_features, ("clip", "ssl"))
    return Instruments(None, judges, load_judge(str(small.root / "judge-train")), features, (), None)


def rows(tmp_path, variant="original", prompts=("face of a cook", "face of a maid")):
    """Two pictures of noise of every prompt."""
    names = [f"{variant}/{number}.png" for number in range(2 * len(prompts))]
    for number, name in enumerate(names):
        picture(tmp_path / name, number + len(variant))
    texts = np.repeat(prompts, 2)
    return pd.DataFrame(
        {"variant": variant, "prompt": texts, "concept": [text[10:] for text in texts], "image": names}
    )


def test_the_columns_of_a_judge_by_hand(small):
    judge = load_judge(str(small.root / "judge-a"))
    table = pd.DataFrame({"concept": ["cook", "cook", "spy"]}, index=[4, 7, 9])
    says = {
        "gender": torch.tensor([[0.25, 0.75], [1, 0], [0.5, 0.5]]),
        "race": torch.full((3, 4), 0.25),
        "concept": torch.tensor([[0.6, 0.4], [0.4, 0.6], [1, 0]]),
    }
    found = judged(table, judge, Judgement(says, torch.tensor([0.9, 0.1, 0.5])))
    assert list(found.index) == [4, 7, 9] and len(found.columns) == 1 + 2 + 4 + 1
    assert found["judge-a/face"].tolist() == pytest.approx([0.9, 0.1, 0.5])
    assert found["judge-a/gender/male"].tolist() == [0.75, 0, 0.5]
    # it knows cook and vet: who looks like a vet is no cook, and of a spy it says nothing
    assert found["judge-a/recognised"].tolist()[:2] == [True, False] and found["judge-a/recognised"].isna()[9]


@pytest.mark.parametrize("at_once", [1, 2])
def test_how_many_are_looked_at_at_once_changes_nothing(instruments, tmp_path, monkeypatch, at_once):
    table, whole = rows(tmp_path), []
    images = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))

    def seen():
        yield from ((table[part], images[part]) for part in (slice(0, 3), slice(3, 4)))

    for portion in (judging.AT_ONCE, at_once):
        monkeypatch.setattr(judging, "AT_ONCE", portion)
        whole.append(look(seen(), instruments.all_judges, instruments.features))
    (columns, features), (parts, part_features) = whole
    pd.testing.assert_frame_equal(parts, columns, rtol=1e-4)
    for name in ("clip", "ssl"):
        torch.testing.assert_close(part_features[name], features[name], rtol=1e-4, atol=1e-5)
    alone = instruments.judges[0].judge(images)
    np.testing.assert_allclose(columns["judge-a/gender/male"], alone.probabilities["gender"][:, 1], rtol=1e-4)


def test_every_variant_is_looked_at_in_the_order_of_its_rows_and_progress_is_told(instruments, tmp_path):
    variants, told = [rows(tmp_path), rows(tmp_path, "nudge")], []
    records, features = record(variants, tmp_path, instruments, lambda *step: told.append(step))
    assert list(records["image"]) == [name for table in variants for name in table["image"]]
    assert set(features) == {
        f"{name}/{variant}" for name in ("clip", "ssl") for variant in ("original", "nudge")
    }
    assert told[0] == ("judging", 0, 8) and told[-1] == ("judging", 8, 8)
    judges = [name.removesuffix("/face") for name in records if name.endswith("/face")]
    assert judges == ["judge-a", "judge-b", "judge-train"] == [judge.name for judge in instruments.all_judges]
    assert records.columns[-3:].tolist() == ["clip_t", "clip_i", "dino"]


def test_similarities_by_hand(instruments):
    """To the original of the same row; the text is compared only where every image has a prompt."""
    clip = instruments.features[0]
    table = pd.DataFrame({"prompt": ["face of a cook", "face of a maid"]}, index=[5, 6])
    text = clip.text(list(table["prompt"]))
    axes = torch.eye(3)
    features = {
        "clip/original": text, "clip/nudge": -2 * text,
        "ssl/original": axes[:2], "ssl/nudge": torch.stack([axes[0] * 5, axes[0] + axes[1]]),
    }  # fmt: skip
    found = similarities(table, "nudge", features, instruments.features)
    assert found["clip_t"].tolist() == pytest.approx([-1, -1]) and found["clip_i"].tolist() == pytest.approx(
        [-1, -1]
    )
    assert found["dino"].to_dict() == pytest.approx({5: 1, 6: 0.5**0.5})
    original = similarities(table, "original", features, instruments.features)
    assert original["clip_t"].tolist() == pytest.approx([1, 1])
    assert original[["clip_i", "dino"]].isna().all(axis=None)
    unknown = similarities(
        table.assign(prompt=["face of a cook", ""]), "nudge", features, instruments.features
    )
    assert unknown["clip_t"].isna().all() and unknown["dino"].notna().all()
    assert list(similarities(table, "nudge", {}, [])) == ["clip_t", "clip_i", "dino"]


def test_distances_are_taken_by_the_first_network_that_reads_no_text(instruments):
    clip, ssl = instruments.features
    assert instruments.network == "ssl"
    assert Instruments(None, (), None, (clip,), (), None).network is None
    assert Instruments(None, (), None, (ssl, clip), (), None).all_judges == ()
