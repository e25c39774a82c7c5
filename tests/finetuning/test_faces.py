from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from fairbench.errors import UserError
from fairbench.finetuning.faces import DetectedFaces, WholePictures, face_loss, pixels_inside
from fairbench.judges.faces import Detections, upright
from tests.finetuning.stand_ins import Coarse

corner = st.integers(0, 9)
box = st.tuples(corner, corner, corner, corner)


@given(one=box, other=box)
def test_a_pixel_is_inside_if_it_is_in_both_boxes(one, other):
    found = pixels_inside(torch.tensor([one]), torch.tensor([other]), 8, 9)[0, 0]
    truth = np.zeros((8, 9), bool)
    for y in range(8):
        for x in range(9):
            truth[y, x] = all(b[0] <= x < b[2] and b[1] <= y < b[3] for b in (one, other))
    assert torch.equal(found, torch.from_numpy(truth))


def test_every_face_is_drawn_to_its_original_or_to_the_nearest_real_one():
    generator = torch.Generator().manual_seed(0)
    unit = lambda count: torch.nn.functional.normalize(torch.randn(count, 6, generator=generator), dim=1)  # noqa: E731
    found, original, real = unit(4).requires_grad_(), unit(4), unit(7)
    keeps = torch.tensor([True, False, False, True])
    present = torch.tensor([True, True, False, True])
    loss = face_loss(found, original, keeps, real, present)
    expected = []
    for row in range(4):
        mine = found[row].detach().numpy()
        near = max(float(mine @ other) for other in real.numpy())
        expected.append(
            1 - (float(mine @ original[row].numpy()) if keeps[row] else near) if present[row] else 0
        )
    np.testing.assert_allclose(loss.detach().numpy(), expected, rtol=1e-5, atol=1e-6)
    (gradient,) = torch.autograd.grad(loss.sum(), found)
    assert (gradient[2] == 0).all() and (gradient[[0, 1, 3]].norm(dim=1) > 0).all()


def test_on_portraits_the_picture_is_the_face():
    asked = []

    def real():
        asked.append(1)
        return torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))

    faces = WholePictures(Coarse(), real)
    images = torch.rand(2, 3, 8, 10, generator=torch.Generator().manual_seed(1))
    found = faces.find(images)
    assert pixels_inside(found.boxes, found.boxes, 8, 10).all()
    torch.testing.assert_close(faces.features(images, found.landmarks).norm(dim=1), torch.ones(2))
    assert not asked
    assert faces.real.shape == faces.real.shape == (3, 48) and asked == [1]


class Colour:
    """Tells faces apart by their mean colour; notes what it is shown."""

    name, description = "colour", SimpleNamespace(image_size=4)

    def __init__(self):
        self.shown = []

    def __call__(self, images):
        self.shown.append(images.detach())
        return images.mean((2, 3)) + 1e-3


def bright(images):
    """Find a face where a picture is bright, if anywhere: a box of 2 x 4 from (3, 0).

    The landmarks are those of a face beside it, in the square of 4 from (6, 0), that lies on its side.
    """
    there = images[:, 0, 2, 3] > 0.5
    boxes = torch.tensor([3.0, 0, 5, 4]).expand(len(images), 4)
    x, y = upright(torch.tensor([[6.0, 0, 10, 4]]).expand(len(images), 4)).unbind(2)
    return Detections(boxes, there.float(), torch.stack([8 - (y - 2), 2 + (x - 8)], 2))


def painted(*colours):
    """Return 4 x 12 pictures whose middle, both of what `bright` finds, has a colour; black ones for None."""
    images = torch.zeros(len(colours), 3, 4, 12)
    for image, colour in zip(images, colours, strict=True):
        if colour is not None:
            image[:, :, 2:10] = torch.tensor(colour)[:, None, None]
    return images


def test_a_detected_face_is_turned_upright_and_seen_from_both_sides():
    network = Colour()
    faces = DetectedFaces(bright, 1.0, network, list, "")
    images = torch.rand(2, 3, 4, 12, generator=torch.Generator().manual_seed(0))
    images[:, 0, 2, 3] = torch.tensor([0.9, 0.1])  # a face and none
    found = faces.find(images)
    assert found.boxes.tolist() == [[2, 0, 6, 4], [0, 0, 0, 0]]
    assert DetectedFaces(bright, 2.0, network, list, "").find(images).boxes[0].tolist() == [0, -2, 8, 6]
    pixels = images.requires_grad_()
    features = faces.features(pixels, found.landmarks)
    turned = images.detach()[..., 6:10].rot90(1, (2, 3))
    torch.testing.assert_close(network.shown, [turned, turned.flip(3)], rtol=0, atol=1e-5)
    torch.testing.assert_close(features, F.normalize(turned.mean((2, 3)) + 1e-3, dim=1), rtol=0, atol=1e-5)
    (gradient,) = torch.autograd.grad(features[0, 1], pixels)
    assert gradient[0, 1, :, 6:10].abs().min() > 0
    gradient[0, :, :, 6:10] = 0
    assert gradient.abs().max() < 1e-5


def test_real_faces_are_those_that_are_found():
    batches = [painted(None, (1.0, 0.0, 0.0)), painted((0.6, 0.6, 0.0))]
    real = DetectedFaces(bright, 1.0, Colour(), lambda: batches, "").real
    half = 0.5**0.5
    torch.testing.assert_close(real, torch.tensor([[1, 0, 0], [half, half, 0]]), rtol=0, atol=2e-3)
    with pytest.raises(UserError, match="no face is found in any of the real faces"):
        DetectedFaces(bright, 1.0, Colour(), lambda: [painted(None)], "").real.any()
