"""Pictures show what their person says, and nothing else decides them."""

from dataclasses import replace

import numpy as np
import pytest

from fairbench.attributes import ATTRIBUTES
from fairbench.portraits.drawing import SIZE, draw_people, draw_person
from fairbench.portraits.world import CONTEXTS, role, roles, sample_person, with_attributes

PERSON = sample_person(np.random.default_rng(3), role("health technician"))


def pixels(person) -> np.ndarray:
    return np.asarray(draw_person(person)).astype(int)


def test_every_role_can_be_drawn():
    rng = np.random.default_rng(0)
    pictures = draw_people([sample_person(rng, entry) for entry in roles().values()])
    assert pictures.shape == (len(roles()), SIZE, SIZE, 3)
    assert pictures.dtype == np.uint8


def test_the_same_person_gives_the_same_pixels():
    assert np.array_equal(pixels(PERSON), pixels(PERSON))


@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_every_class_is_visible(attribute):
    looks = [pixels(with_attributes(PERSON, **{attribute: k})) for k in range(len(ATTRIBUTES[attribute]))]
    for i, one in enumerate(looks):
        for other in looks[:i]:
            assert np.abs(one - other).mean() > 1


def test_attributes_change_the_person_and_not_the_prop():
    corner = (slice(2, 20), slice(2, 14))
    change = (
        pixels(with_attributes(PERSON, gender=0))[corner] - pixels(with_attributes(PERSON, gender=1))[corner]
    )
    assert not change.any()


@pytest.mark.parametrize("context", CONTEXTS)
def test_every_context_is_visible(context):
    assert np.abs(pixels(replace(PERSON, context=context)) - pixels(PERSON)).mean() > 1


def test_a_faceless_picture_has_no_skin_where_the_face_would_be():
    empty = pixels(replace(PERSON, face=False))
    assert np.abs(empty - pixels(PERSON))[20:40, 24:40].mean() > 20
