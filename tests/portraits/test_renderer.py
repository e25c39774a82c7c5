"""The renderer as a generator: reproducible, and exactly as fair as it is told to be."""

import numpy as np
import pytest
import torch

from fairbench.errors import UserError
from fairbench.portraits.renderer import PortraitsRenderer, reference_images, role_in

PROMPT = "a photo of the face of a sergeant, a person"


def share_male(renderer: PortraitsRenderer, count: int = 3000) -> float:
    people = renderer.people([PROMPT] * count, range(count))
    return float(np.mean([person.attributes["gender"] for person in people]))


def test_the_same_seed_gives_the_same_picture_in_any_batch():
    renderer = PortraitsRenderer()
    together = renderer.generate([PROMPT] * 4, [1, 2, 3, 4])
    assert together.shape == (4, 3, 64, 64)
    assert torch.equal(together[2:3], renderer.generate([PROMPT], [3]))


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_shares_are_obeyed(share):
    assert share_male(PortraitsRenderer(male=share)) == pytest.approx(share, abs=0.03)


def test_without_options_it_follows_the_world():
    assert share_male(PortraitsRenderer()) == pytest.approx(
        role_in(PROMPT).probabilities["gender"][1], abs=0.03
    )


def test_the_other_classes_share_the_rest():
    assert PortraitsRenderer(Black=0.4).distributions["race"] == pytest.approx((0.2, 0.4, 0.2, 0.2))


@pytest.mark.parametrize("options", [{"mail": 0.5}, {"male": 1.2}, {"male": 0.5, "female": 0.5}])
def test_impossible_shares_are_refused(options):
    with pytest.raises(UserError):
        PortraitsRenderer(**options)


def test_the_longest_role_in_a_prompt_is_meant():
    assert role_in("a photo of the face of a legal secretary, a person").name == "legal secretary"
    with pytest.raises(UserError, match="no role"):
        role_in("a castle on a hill")


def test_references_are_pictures_of_the_concepts():
    pictures = reference_images(["sergeant", "sergeant", "butcher"], seed=0)
    assert pictures.shape == (3, 64, 64, 3)
    assert not np.array_equal(pictures[0], pictures[1])
