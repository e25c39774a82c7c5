import hashlib

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fairbench.seeding import generators, image_seed

words = st.text(st.characters(exclude_characters="|", exclude_categories=["Cs"]), max_size=20)


def test_the_seed_of_one_image_never_changes():
    # Written down once, from `printf 'occupations|1|pilot|3|0' | sha256sum`: records of old runs rely on it.
    assert image_seed("occupations", "1", "pilot", 3, 0) == 5660923763657479336


@given(words, words, words, st.integers(0, 10**6), st.integers(0, 10**6))
def test_the_seed_is_63_bits_of_the_hash(suite, version, prompt_id, index, base_seed):
    digest = hashlib.sha256(f"{suite}|{version}|{prompt_id}|{index}|{base_seed}".encode()).hexdigest()
    seed = image_seed(suite, version, prompt_id, index, base_seed)
    assert seed == int(digest[:16], 16) % 2**63


def test_every_field_counts():
    cases = [("a", "1", "p", 0, 0), ("b", "1", "p", 0, 0), ("a", "2", "p", 0, 0), ("a", "1", "q", 0, 0)]
    cases += [("a", "1", "p", 1, 0), ("a", "1", "p", 0, 1)]
    assert len({image_seed(*case) for case in cases}) == len(cases)


def test_noise_depends_on_the_seed_alone():
    seeds = [image_seed("s", "1", "p", index, 0) for index in range(4)]
    together = [torch.randn(8, generator=generator) for generator in generators(seeds)]
    alone = [torch.randn(8, generator=generators([seed])[0]) for seed in reversed(seeds)]
    for one, other in zip(together, reversed(alone), strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(together[0], together[1])


@pytest.mark.parametrize("seed", [0, 2**63 - 1])
def test_the_whole_range_of_seeds_is_taken(seed):
    assert generators([seed])[0].initial_seed() == seed
