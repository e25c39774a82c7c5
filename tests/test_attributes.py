import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairbench.attributes import ATTRIBUTES, AttributeSpace, TargetDistribution
from fairbench.errors import UserError

spaces = st.lists(st.sampled_from(sorted(ATTRIBUTES)), min_size=1, unique=True).map(AttributeSpace.parse)


def simplex(size):
    weights = st.lists(st.integers(0, 1000), min_size=size, max_size=size).filter(any)
    return weights.map(lambda values: [value / sum(values) for value in values])


@st.composite
def targets(draw):
    space = draw(spaces)
    return space, {name: draw(simplex(len(classes))) for name, classes in space.classes.items()}


def test_parse_reads_text_and_lists():
    assert AttributeSpace.parse("gender, race") == AttributeSpace.parse(["gender", "race"])
    assert AttributeSpace.parse("age").classes == {"age": ("young", "old")}


@given(spaces)
def test_labels_are_the_product_in_row_major_order(space):
    sizes = [len(classes) for classes in space.classes.values()]
    assert space.size == len(space.labels) == math.prod(sizes) == len(set(space.labels))
    for indices in itertools.product(*(range(size) for size in sizes)):
        flat = int(np.ravel_multi_index(indices, sizes))
        words = [space.classes[name][index] for name, index in zip(space.names, indices, strict=True)]
        assert space.labels[flat] == " ".join(words)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("gendr", "did you mean 'gender'"),
        ("gender,gender", "once"),
        ("", "at least one"),
        ([], "at least one"),
        (3, "gender,race"),
    ],
)
def test_bad_attributes_are_refused(names, message):
    with pytest.raises(UserError, match=message):
        AttributeSpace.parse(names)


@given(targets())
def test_a_target_survives_being_written_as_text_or_mapping(case):
    space, mapping = case
    text = ",".join(f"{name}={'/'.join(map(repr, values))}" for name, values in mapping.items())
    from_text, from_mapping = TargetDistribution.parse(text, space), TargetDistribution.parse(mapping, space)
    assert from_text == from_mapping
    for name, values in mapping.items():
        assert from_text.probabilities[name] == pytest.approx(values, abs=1e-12)


@given(targets())
def test_the_joint_is_the_product_of_the_marginals(case):
    space, mapping = case
    target = TargetDistribution.parse(mapping, space)
    joint = target.joint(space.names)
    assert joint.shape == (space.size,)
    assert joint.sum() == pytest.approx(1)
    brute = [math.prod(values) for values in itertools.product(*(mapping[name] for name in space.names))]
    assert joint == pytest.approx(brute, abs=1e-12)
    cube = joint.reshape([len(classes) for classes in space.classes.values()])
    for axis, name in enumerate(space.names):
        others = tuple(other for other in range(cube.ndim) if other != axis)
        assert cube.sum(axis=others) == pytest.approx(mapping[name], abs=1e-12)


@given(spaces, st.sampled_from([None, "uniform", " uniform ", {}]))
def test_no_target_is_uniform(space, target):
    assert TargetDistribution.parse(target, space).joint(space.names) == pytest.approx(1 / space.size)


def test_an_attribute_left_out_is_uniform():
    target = TargetDistribution.parse("gender=.25/.75", AttributeSpace.parse("gender,age"))
    assert target.probabilities == {"gender": (0.25, 0.75), "age": (0.5, 0.5)}


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("gender=-0.5/1.5", "negative"),
        ("gender=nan/0.5", "nan"),
        ("gender=inf/0.5", "infinite"),
        ("gender=0.5/0.6", "sum to 1.1"),
        ("gender=0.5/0.25/0.25", r"2 probabilities \(female, male\), not 3"),
        ("gender=", "not all numbers"),
        ("gender=a/b", "not all numbers"),
        ("gender", "write it like"),
        ("=0.5/0.5", "write it like"),
        ("", "write it like"),
        ("gender=1/0,gender=0/1", "once"),
        ("gander=1/0", "did you mean 'gender'"),
        ("race=.25/.25/.25/.25", "unknown target attribute 'race'; known: gender"),
        ({"gender": 0.5}, "one probability per class"),
        ({"gender": "0.5/0.5"}, "one probability per class"),
        ({"gender": [None, 1]}, "not all numbers"),
        ([0.5, 0.5], "write it like"),
    ],
)
def test_bad_targets_are_refused(target, message):
    with pytest.raises(UserError, match=message):
        TargetDistribution.parse(target, AttributeSpace.parse("gender"))
