import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from fairbench.alignment import expected_targets
from fairbench.attributes import SCALES, AttributeSpace, TargetDistribution
from fairbench.judges import check_covers, load_judge
from fairbench.judges.skin_tone import (
    MONK,
    SkinToneReader,
    monk_lab,
    skin_colour,
    srgb_to_lab,
    typology_angle,
)
from fairbench.metrics.summary import summarise
from fairbench.portraits.renderer import PortraitsRenderer


class Counter(TorchDispatchMode):
    """Counts the operations of torch."""

    number = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.number += 1
        return function(*args, **(kwargs or {}))


def swatch(tone: int, size: int = 32) -> torch.Tensor:
    return (torch.tensor(list(bytes.fromhex(MONK[tone]))) / 255).view(3, 1, 1).expand(3, size, size).clone()


@pytest.mark.parametrize(
    ("rgb", "lab"),
    [
        # Bruce Lindbloom's calculator, sRGB, D65, no adaptation
        ((255, 255, 255), (100.0, 0.0, 0.0)),
        ((0, 0, 0), (0.0, 0.0, 0.0)),
        ((255, 0, 0), (53.24, 80.09, 67.20)),
        ((0, 255, 0), (87.73, -86.18, 83.18)),
        ((0, 0, 255), (32.30, 79.19, -107.86)),
        ((119, 119, 119), (50.03, 0.0, 0.0)),
    ],
)
def test_lab_has_the_published_values(rgb, lab):
    found = srgb_to_lab(torch.tensor([rgb], dtype=torch.float64) / 255)[0]
    assert found.tolist() == pytest.approx(lab, abs=0.02)


def test_the_scale_goes_from_light_to_dark():
    lightness = monk_lab()[:, 0]
    # the third is lighter than the second in L*, as published: it is told apart by its yellow
    assert (lightness[3:].diff() < 0).all() and lightness[:3].min() > 90 and lightness[9] < 15
    assert len(SCALES["skin_tone"]) == len(MONK) == 10


def test_the_typology_angle_is_45_degrees_where_both_sides_are_equal():
    lab = torch.tensor([[70.0, 8, 20], [50, 8, 20], [30, 8, 20]])
    assert typology_angle(lab).tolist() == pytest.approx([45, 0, -45])


def test_every_tone_is_read_as_itself():
    read = SkinToneReader()(torch.stack([swatch(tone) for tone in range(10)]))
    assert read["skin_tone"].argmax(1).tolist() == list(range(10))
    assert read["readable"].tolist() == [1] * 10


def test_usual_rules_for_skin_would_lose_the_darkest_tone_and_ours_does_not():
    red, green, blue = (float(value) for value in bytes.fromhex(MONK[9]))
    assert 128 + 0.5 * red - 0.4187 * green - 0.0813 * blue < 133  # the lower bound on Cr of Chai & Ngan 1999
    assert skin_colour(swatch(9)[None])[1] == 1


@pytest.mark.parametrize("tone", range(10))
def test_background_highlights_and_shadows_do_not_move_the_reading(tone):
    face = swatch(tone, 64)
    face[:, :6] = torch.tensor([0.1, 0.3, 0.9]).view(3, 1, 1)  # sky, within the ellipse too
    face[:, 30:34, 10:54] = (face[:, 30:34, 10:54] * 1.5).clamp(max=1)
    face[:, 44:48, 10:54] *= 0.5
    colour, share = skin_colour(face[None])
    assert torch.linalg.norm(colour[0] - monk_lab()[tone]) < 0.5
    assert share < 1


def test_skin_coloured_walls_around_the_face_do_not_count():
    face = swatch(0, 64)
    face[:, :8, :8] = face[:, -8:, -8:] = swatch(8)[:, :8, :8]
    assert torch.allclose(skin_colour(face[None])[0][0], monk_lab()[0], atol=1e-3)


def test_only_the_ellipse_that_fills_the_crop_counts():
    """Its corners are a fifth of it: of skin, they would reach the middle half; of sky, lessen the share."""
    y, x = torch.meshgrid(*[(torch.arange(64) + 0.5) / 32 - 1] * 2, indexing="ij")
    corners = y**2 + x**2 > 1
    assert 0.2 < corners.float().mean() < 0.22
    face, sky = swatch(2, 64), torch.tensor([0.1, 0.3, 0.9]).view(3, 1)
    face[:, 30:38, 8:56] *= 0.6  # a shadow, a tenth of the face
    colour, share = skin_colour(face[None])
    for painted in (swatch(8, 64)[:, corners], sky):
        spoilt = face.clone()
        spoilt[:, corners] = painted
        torch.testing.assert_close(skin_colour(spoilt[None]), (colour, share))
    assert torch.linalg.norm(colour[0] - monk_lab()[2]) < 0.01


def test_m2_pixels_that_are_no_skin_neither_dilute_the_reading_nor_cost_a_loop():
    face = swatch(7, 64)
    face[:, :, ::2] = torch.tensor([0.1, 0.3, 0.9]).view(3, 1, 1)
    # the museum's formula: nearest tone of each pixel by L1, "unknown" left in the denominator
    nearest = (
        (face.flatten(1).T[:, None] - torch.tensor([list(bytes.fromhex(t)) for t in MONK]) / 255).abs().sum(2)
    )
    known = (nearest.argmin(1) == 7) & (nearest.min(1).values < 0.2)
    assert known.float().mean() == 0.5
    assert SkinToneReader()(face[None])["skin_tone"].softmax(1)[0, 7] > 0.9

    def operations(count, size):
        with Counter() as counter:
            SkinToneReader()(torch.rand(count, 3, size, size))
        return counter.number

    assert operations(50, 64) == operations(2, 16)


@pytest.mark.parametrize("grey", [0.0, 0.2, 0.5, 1.0])
def test_a_face_without_colour_is_not_readable_and_has_no_nan(grey):
    faces = torch.full((1, 3, 32, 32), grey, requires_grad=True)
    read = SkinToneReader()(faces)
    assert read["readable"].tolist() == [0] and read["skin_tone"].isfinite().all()
    read["skin_tone"].sum().backward()
    assert faces.grad.isfinite().all()


@given(st.permutations(range(10)))
def test_the_order_of_images_makes_no_difference(order):
    faces = torch.stack([swatch(tone, 16) for tone in range(10)])
    torch.testing.assert_close(skin_colour(faces[list(order)])[0], skin_colour(faces)[0][list(order)])


def test_a_step_along_the_gradient_makes_a_darker_tone_likelier():
    faces = swatch(4)[None].requires_grad_()
    before = SkinToneReader()(faces)["skin_tone"].log_softmax(1)[0, 6]
    (gradient,) = torch.autograd.grad(before, faces)
    assert (gradient != 0).float().mean() > 0.5  # of nearly all skin, not of one median pixel
    after = SkinToneReader()(faces + 0.05 * gradient.sign())["skin_tone"].log_softmax(1)[0, 6]
    assert after > before


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    path = tmp_path_factory.mktemp("judge") / "monk.yaml"
    path.write_text("name: monk\nnetworks: [{kind: skin_tone}]\n")
    return load_judge(path)


def test_drawn_people_are_told_apart_by_the_skin_they_are_drawn_with(judge):
    prompts = ["a photo of the face of a nurse, a person"] * 16
    light, dark = (
        PortraitsRenderer(**{label: 1.0}).generate(prompts, range(16)) for label in ("WMELH", "Black")
    )
    face = slice(20, 40)
    tones = [
        judge.judge(images[:, :, face, face]).probabilities["skin_tone"].argmax(1).float().mean()
        for images in (light, dark)
    ]
    assert tones[0] < 5 < tones[1]


def test_bias_and_alignment_take_it_as_an_attribute_like_any_other(judge):
    space = AttributeSpace.parse("skin_tone")
    check_covers(judge, space)
    judgement = judge.judge(torch.stack([swatch(tone) for tone in (0, 0, 0, 9)]))
    rows = {"prompt_id": "p", "prompt": "p", "monk/face": judgement.face.numpy()} | {
        f"monk/skin_tone/{name}": judgement.probabilities["skin_tone"][:, k].numpy()
        for k, name in enumerate(space.labels)
    }
    summary = summarise(pd.DataFrame(rows), "monk", ["skin_tone"])["skin_tone"]
    assert summary["per_prompt"][0]["counts"]["monk1"] == 3
    # by hand: f = (.75, .25, 0 x 8); 1 pair differs by .5, 8 by .75, 8 by .25, of 45
    assert summary["bias_mean"] == pytest.approx((0.5 + 8 * 0.75 + 8 * 0.25) / 45)
    target = TargetDistribution.parse("skin_tone=.5/0/0/0/0/0/0/0/0/.5", space)
    targets = expected_targets(
        judgement.probabilities, target.probabilities, generator=torch.Generator().manual_seed(0)
    )
    q = targets["skin_tone"].q
    np.testing.assert_allclose(q.sum(1), 1, atol=1e-5)
    assert q[3].argmax() == 9 and q[:, 1:9].abs().max() < 1e-6 and abs(float(q[:, 9].sum()) - 2) < 0.5
