from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fairbench.errors import UserError
from fairbench.finetuning.faces import DetectedFaces, WholePictures, face_loss, inside
from fairbench.judges.faces import Detections, squared, upright
from tests.finetuning.stand_ins import Coarse

corner = st.integers(0, 9)
box = st.tuples(corner, corner, corner, corner)


@given(one=box, other=box)
def test_a_pixel_is_inside_if_it_is_in_both_boxes(one, other):
    found = inside(torch.tensor([one]), torch.tensor([other]), 8, 9)[0, 0]
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
    assert inside(found.boxes, found.boxes, 8, 10).all()
    torch.testing.assert_close(faces.features(images, found).norm(dim=1), torch.ones(2))
    assert not asked
    assert faces.real.shape == faces.real.shape == (3, 48) and asked == [1]


class Colour:
    """Tells faces apart by their mean colour; notes what it is shown."""

    name, description = "colour", SimpleNamespace(image_size=4)

    def __call__(self, images):
        self.shown = images
        return images.mean((2, 3)) + 1e-3


def bright(images):
    """Find the face where a picture is bright, if anywhere: 2 wide and 4 high, from (3, 2)."""
    there = images[:, 0, 2, 3] > 0.5
    boxes = torch.tensor([3.0, 2, 5, 6]).expand(len(images), 4)
    return Detections(boxes, there.float(), upright(squared(boxes, 1)))


def painted(*colours):
    """Return 10 x 12 pictures with the face of `bright` in a colour; black without one for None."""
    images = torch.zeros(len(colours), 3, 10, 12)
    for image, colour in zip(images, colours, strict=True):
        if colour is not None:
            image[:, 2:6, 2:6] = torch.tensor(colour)[:, None, None]
    return images


def test_a_detected_face_is_aligned_and_seen_from_both_sides():
    network = Colour()
    faces = DetectedFaces(bright, 1.0, network, lambda: [], "")
    images = painted((1.0, 0.5, 0.0), None).requires_grad_()
    found = faces.find(images.detach())
    assert found.boxes.tolist() == [[2, 2, 6, 6], [0, 0, 0, 0]]
    features = faces.features(images, found)
    expected = torch.tensor([1.0, 0.5, 0.0])
    torch.testing.assert_close(network.shown[0], expected[:, None, None].expand(3, 4, 4))
    torch.testing.assert_close(features[0], expected / expected.norm(), rtol=0, atol=2e-3)
    (gradient,) = torch.autograd.grad(features[0, 1], images)
    assert gradient[0, :, 2:6, 2:6].abs().sum() > 0
    gradient[0, :, 2:6, 2:6] = 0
    assert gradient.abs().max() < 1e-5
    larger = DetectedFaces(bright, 2.0, network, lambda: [], "").find(images.detach())
    assert larger.boxes[0].tolist() == [0, 0, 8, 8]


def test_a_face_and_its_mirror_image_are_the_same_person():
    class LeftHalf(Colour):
        def __call__(self, images):
            return super().__call__(images[..., :2])

    faces = DetectedFaces(bright, 1.0, LeftHalf(), lambda: [], "")
    image = painted((1.0, 1.0, 1.0))
    image[0, 0, 2:6, 4:6] = 0.6  # less red on one side
    image[0, 1, 2:6, 2:4] = 0.6  # less green on the other
    (feature,) = faces.features(image, faces.find(image))
    torch.testing.assert_close(feature[0], feature[1])


def test_real_faces_are_those_that_are_found():
    batches = [painted((1.0, 0.0, 0.0), None), painted((0.6, 0.6, 0.0))]
    real = DetectedFaces(bright, 1.0, Colour(), lambda: batches, "").real
    half = 0.5**0.5
    torch.testing.assert_close(real, torch.tensor([[1, 0, 0], [half, half, 0]]), rtol=0, atol=2e-3)
    with pytest.raises(UserError, match="no face is found in any of the real faces"):
        DetectedFaces(bright, 1.0, Colour(), lambda: [painted(None)], "").real.any()
