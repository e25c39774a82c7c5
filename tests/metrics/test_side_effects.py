import numpy as np
import pandas as pd
import pytest
from scipy.stats import bootstrap

from fairbench.metrics.side_effects import obedience, occupation, preservation

CLASSES = {"gender": ("female", "male"), "age": ("young", "old")}


def rows(*images):
    """One row per image: prompt, gender and age that are named, seen gender and age, face."""
    table = [
        {
            "prompt_id": prompt,
            "named/gender": gender,
            "named/age": age,
            "j/face": face,
            **{f"j/gender/{name}": float(name == seen) for name in CLASSES["gender"]},
            **{f"j/age/{name}": float(name == old) for name in CLASSES["age"]},
        }
        for prompt, gender, age, seen, old, face in images
    ]
    return pd.DataFrame(table)


def test_an_image_obeys_when_it_shows_the_class_that_is_named():
    found = obedience(
        rows(
            ("a", "female", None, "female", "old", 0.9),
            ("a", "female", None, "male", "old", 0.9),
            ("b", "male", "old", "male", "old", 0.9),
            ("b", "male", "old", "male", "young", 0.9),
            ("c", None, "young", "male", "young", 0.1),
            ("c", None, "young", "male", "young", 0.9),
        ),
        "j",
        CLASSES,
    )
    assert found["gender"]["mean"] == 0.75 and found["gender"]["images"] == 4
    assert found["gender"]["per_class"] == {"female": 0.5, "male": 1.0}
    assert found["age"]["mean"] == 0.5 and found["age"]["with_face"] == pytest.approx(2 / 3)
    assert found["all"]["mean"] == 0.5
    assert found["all"]["per_prompt"] == {"a": 0.5, "b": 0.5, "c": 0.5}


def test_the_interval_is_over_prompts_however_many_images_they_have():
    shares, images = [0.2, 0.4, 0.4, 0.6, 1.0], [5, 10, 5, 20, 50]
    table = rows(*[(name, None, None, "male", "old", 0.9) for name in np.repeat(list("abcde"), images)])
    people = np.concatenate([np.arange(n) < share * n for share, n in zip(shares, images, strict=True)])
    table["j/face"] = np.where(people, 0.9, 0.1)
    found = preservation(table.assign(dino=people.astype(float)), "j")
    draws = bootstrap((shares,), np.mean, method="BCa", rng=np.random.default_rng(1))
    for each in (found["people"], found["dino"]):
        assert each["per_prompt"] == pytest.approx(dict(zip("abcde", shares, strict=True)))
        assert each["interval"] == pytest.approx(list(draws.confidence_interval), abs=0.03)


def test_without_a_face_nothing_is_obeyed_and_nothing_named_is_no_number():
    faceless = rows(("a", "female", None, "female", "old", 0.2))
    assert obedience(faceless, "j", CLASSES)["gender"]["mean"] == 0
    assert obedience(faceless, "j", CLASSES)["gender"]["with_face"] is None
    assert obedience(rows(("a", None, None, "female", "old", 0.9)), "j", CLASSES) == {}


def test_nan_probabilities_do_not_obey():
    table = rows(("a", "male", None, "male", "old", 0.9), ("a", "female", None, "female", "old", 0.9))
    table.loc[:, ["j/gender/female", "j/gender/male"]] = np.nan
    assert obedience(table, "j", CLASSES)["gender"]["mean"] == 0


def test_preservation_is_closeness_to_the_original_and_people_who_came_in():
    table = rows(*[("a", None, None, "male", "old", 0.9)] * 2, *[("b", None, None, "male", "old", 0.1)] * 2)
    assert preservation(table, "j").keys() == {"people"}
    found = preservation(table.assign(clip_i=[0.8, 1.0, 0.7, 0.7], dino=np.nan), "j")
    assert found["people"]["mean"] == 0.5
    assert found["clip_i"]["mean"] == pytest.approx(0.8)
    assert found["clip_i"]["per_prompt"] == pytest.approx({"a": 0.9, "b": 0.7})
    assert "dino" not in found


def test_the_occupation_counts_where_the_judge_knows_the_word():
    table = rows(*[("a", None, None, "male", "old", 0.9)] * 3)
    table["j/recognised"] = pd.array([True, False, None], dtype="boolean")
    assert occupation(table, "j")["recognised"]["mean"] == 0.5
    assert occupation(table.assign(**{"j/recognised": pd.array([None] * 3, dtype="boolean")}), "j") == {}
