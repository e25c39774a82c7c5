"""Counts of records against a loop over images; rarefied bias against drawing images without replacement."""

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairbench.errors import UserError
from fairbench.metrics.bias import bias
from fairbench.metrics.counts import (
    count_table,
    mean_known,
    paired_biases,
    prompt_biases,
    rarefied_bias,
    unpaired_biases,
)


def records() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {"prompt_id": rng.choice(["cook", "vet", "spy"], 60), "j/face": rng.uniform(size=60)}
    )
    table[["j/gender/female", "j/gender/male"]] = rng.dirichlet([1, 1], 60)
    table[["j/race/A", "j/race/B", "j/race/C"]] = rng.dirichlet([1, 1, 1], 60)
    return table


@pytest.mark.parametrize("attribute", ["gender", "race", "gender x race"])
def test_a_loop_over_images_counts_the_same(attribute):
    rows, expected = records(), {}
    for _, row in rows.iterrows():
        if row["j/face"] >= 0.5:
            parts = []
            for name in attribute.split(" x "):
                of_name = {key: row[key] for key in rows if key.startswith(f"j/{name}/")}
                parts.append(max(of_name, key=of_name.get).rsplit("/", 1)[1])
            key = (row["prompt_id"], " ".join(parts))
            expected[key] = expected.get(key, 0) + 1
    table = count_table(rows, "j", attribute)
    assert list(table.index) == list(dict.fromkeys(rows["prompt_id"]))
    assert {key: n for key, n in table.stack().to_dict().items() if n} == expected


def test_what_was_not_judged_is_named():
    with pytest.raises(UserError, match="'j' has not judged age"):
        count_table(records(), "j", "gender x age")
    with pytest.raises(UserError, match="'k' has not judged gender"):
        count_table(records(), "k", "gender")


counts = st.lists(st.integers(0, 4), min_size=2, max_size=4).filter(lambda found: 0 < sum(found) <= 9)


@given(counts, st.booleans(), st.data())
def test_rarefied_bias_is_the_mean_over_all_subsets(found, aimed, data):
    n = data.draw(st.integers(1, sum(found)))
    ramp = np.arange(1, len(found) + 1) / np.arange(1, len(found) + 1).sum()
    target = tuple(ramp.tolist()) if aimed else None
    images = [k for k, count in enumerate(found) for _ in range(count)]
    subsets = [np.bincount(chosen, minlength=len(found)) / n for chosen in itertools.combinations(images, n)]
    expected = bias(np.array(subsets), ramp if aimed else None).mean()
    assert rarefied_bias(tuple(found), n, target) == pytest.approx(expected, abs=1e-9)


def test_paired_biases_meet_at_the_smaller_number_of_images():
    first, second = np.array([[8, 2], [3, 3], [0, 0]]), np.array([[8, 2], [1, 2], [5, 5]])
    one, other = paired_biases(first, second)
    assert one[0] == other[0] == prompt_biases(first)[0]
    assert other[1] == prompt_biases(second)[1] and one[1] == rarefied_bias((3, 3), 3)
    assert np.isnan(one[2]) and np.isnan(other[2])


def test_unpaired_biases_meet_at_the_smaller_median_of_images():
    first, second = np.array([[8, 2], [3, 3], [6, 0]]), np.array([[2, 1], [1, 2], [4, 1], [0, 0]])
    for one, other in (unpaired_biases(first, second), unpaired_biases(second, first)[::-1]):
        assert one.tolist() == [rarefied_bias(tuple(row), 3) for row in first.tolist()]  # not 6
        assert other[:3].tolist() == [1 / 3, 1 / 3, rarefied_bias((4, 1), 3)]
        assert np.isnan(other[3]) and mean_known(other) == pytest.approx(other[:3].mean())


def test_fewer_images_of_the_same_model_are_no_more_biased_when_rarefied():
    rng = np.random.default_rng(1)
    many, few = rng.multinomial(60, [0.6, 0.4], 4000), rng.multinomial(9, [0.6, 0.4], 4000)
    assert prompt_biases(few).mean() - prompt_biases(many).mean() > 0.05
    one, other = paired_biases(many, few)
    assert (one - other).mean() == pytest.approx(0, abs=4 * (one - other).std() / np.sqrt(4000))
