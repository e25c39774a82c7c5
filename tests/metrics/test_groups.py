import numpy as np
import pandas as pd
import pytest
import torch

from fairbench.metrics.groups import matched_kid, prompt_numbers, within_groups
from fairbench.metrics.kernel import Features, kid_interval
from fairbench.metrics.quality import vendi_at

CLASSES = ("female", "male")


def world(seed, per_prompt, shift=2.0):
    """Records and features whose classes lie ``shift`` apart; ``per_prompt``: how many of each class."""
    rng = np.random.default_rng(seed)
    rows, features = [], []
    for prompt, counts in enumerate(per_prompt):
        for k, count in enumerate(counts):
            for _ in range(count):
                probability = rng.uniform(0.6, 1)
                rows.append(
                    {
                        "variant": "original",
                        "prompt_id": f"p{prompt}",
                        "judge/face": 0.9,
                        "judge/gender/female": probability if k == 0 else 1 - probability,
                        "judge/gender/male": probability if k == 1 else 1 - probability,
                        "clip_t": 0.2 + 0.1 * k,
                    }
                )
                features.append(rng.normal(size=4) + shift * k)
    return pd.DataFrame(rows), torch.tensor(np.array(features))


def test_each_class_has_its_own_numbers_from_its_own_images():
    records, features = world(0, [(6, 10), (5, 9)])
    reference = world(1, [(8, 8), (8, 8)])
    records.loc[0, "judge/face"] = 0.1
    found = within_groups(records, "judge", "gender", CLASSES, features, reference)
    assert [found[name]["images"] for name in CLASSES] == [10, 19]
    assert found["female"]["face_rate"] == pytest.approx(10 / 11) and found["male"]["face_rate"] == 1
    assert [found[name]["clip_t"]["mean"] for name in CLASSES] == pytest.approx([0.2, 0.3])
    female = (records["judge/gender/female"] > 0.5).to_numpy() & (records["judge/face"] > 0.5).to_numpy()
    other = (reference[0]["judge/gender/female"] > 0.5).to_numpy()
    expected, interval = kid_interval(
        Features.of(features[female], records["prompt_id"][female].str[1:].astype(int)),
        Features.of(reference[1][other], reference[0]["prompt_id"][other].str[1:].astype(int)),
    )
    assert found["female"]["kid"]["mean"] == pytest.approx(expected)
    assert found["female"]["kid"]["interval"] == pytest.approx(interval)
    assert found["female"]["vendi_images"] == found["male"]["vendi_images"] == 10
    assert found["male"]["vendi"] == pytest.approx(vendi_at(features[~female][1:], 10))


@pytest.mark.parametrize("which", ["generated", "reference"])
def test_images_without_a_face_are_of_no_class(which):
    """Strange ones among them: what is compared is as if they were not there, and so is its share."""
    strange, features = world(2, [(6, 6), (6, 6)], shift=50.0)
    clean = {"generated": world(0, [(10, 10), (10, 10)]), "reference": world(1, [(12, 12), (12, 0)])}
    rows = pd.concat([clean[which][0], strange.assign(**{"judge/face": 0.1})], ignore_index=True)
    spoilt = clean | {which: (rows, torch.cat([clean[which][1], features]))}
    found = []
    for given in (clean, spoilt):
        generated, reference = given["generated"], given["reference"]
        each = within_groups(generated[0], "judge", "gender", CLASSES, generated[1], reference)
        found.append(
            [each[name]["kid"] for name in CLASSES]
            + [matched_kid(*generated, reference, "judge", {"gender": CLASSES})]
        )
    assert found[0] == found[1]
    assert found[1][2]["compared"] == 0.75


def test_a_class_that_is_never_seen_has_no_value_rather_than_a_good_one():
    records, features = world(0, [(0, 8), (0, 8)])
    found = within_groups(records, "judge", "gender", CLASSES, features, None)["female"]
    assert found["images"] == 0
    assert found["face_rate"] is found["vendi"] is found["kid"] is found["clip_t"]["mean"] is None


def test_fairness_is_no_loss_of_quality_against_a_matched_reference():
    """The reference is skewed, the generated images are fair, and people of one class look alike in both."""
    fair, skewed = world(0, [(40, 40)] * 4), world(1, [(10, 70)] * 4)
    plain = kid_interval(*(Features.of(f, r["prompt_id"].str[1:].astype(int)) for r, f in (fair, skewed)))
    matched = matched_kid(fair[0], fair[1], skewed, "judge", {"gender": CLASSES})
    assert plain[1][0] > 0
    assert matched["interval"][0] < 0 < matched["interval"][1]
    assert matched["compared"] == 1
    assert matched["effective"] == pytest.approx(4 * 80**2 / (40**2 / 10 + 40**2 / 70))


def test_what_the_reference_does_not_show_is_left_out_and_said():
    records, features = world(0, [(10, 10), (10, 10)])
    reference = world(1, [(0, 20), (10, 10)])
    assert matched_kid(records, features, reference, "judge", {"gender": CLASSES})["compared"] == 0.75
    nothing = world(1, [(0, 2), (0, 2)])
    women = world(0, [(10, 0), (10, 0)])
    assert matched_kid(*women, nothing, "judge", {"gender": CLASSES}) is None


def test_a_reference_of_no_prompt_is_matched_by_class_alone_and_dealt_out_over_the_prompts():
    records, features = world(0, [(40, 40)] * 4)
    photographs, theirs = world(1, [(10, 70)] * 3)
    photographs["prompt_id"] = "photographs"
    ours, dealt = prompt_numbers(records, photographs)
    assert list(np.bincount(ours)) == [80] * 4 and list(np.bincount(dealt)) == [60] * 4
    found = matched_kid(records, features, (photographs, theirs), "judge", {"gender": CLASSES})
    women = (photographs["judge/gender/female"] > 0.5).to_numpy()
    weights = np.where(women, 160 / 30, 160 / 210)
    expected = kid_interval(Features.of(features, ours), Features.of(theirs, dealt, weights))
    assert (found["mean"], found["interval"]) == (pytest.approx(expected[0]), pytest.approx(expected[1]))
    assert found["interval"][0] < 0 < found["interval"][1] and found["compared"] == 1
