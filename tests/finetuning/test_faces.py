import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from fairbench.finetuning.faces import WholePictures, face_loss, inside
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
    boxes = faces.boxes(images)
    assert inside(boxes, boxes, 8, 10).all()
    torch.testing.assert_close(faces.features(images, boxes).norm(dim=1), torch.ones(2))
    assert not asked
    assert faces.real.shape == faces.real.shape == (3, 48) and asked == [1]
