import sys
from types import ModuleType

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from fairbench.errors import UserError
from fairbench.judges.faces import (
    LANDMARKS,
    LargestFace,
    aligned,
    crop,
    insightface,
    squared,
    upright,
    whole_image,
    yunet,
)


class YuNet:
    """Finds the red rectangle, and answers in exactly the format of ``cv2.FaceDetectorYN``."""

    def __init__(self, model, config, input_size, score_threshold):
        self.size, self.threshold = input_size, score_threshold

    def setInputSize(self, size):
        self.size = size

    def detect(self, image):
        assert image.dtype == np.uint8 and image.flags.c_contiguous
        assert image.shape == (self.size[1], self.size[0], 3)
        blue, green, red = image.transpose(2, 0, 1).astype(int)
        rows, columns = np.nonzero(red - blue - green > 128)
        if not len(rows):
            return 1, None
        left, top = columns.min(), rows.min()
        box = [left, top, columns.max() + 1 - left, rows.max() + 1 - top]
        return 1, np.array([[*box, *range(left, left + 10), 0.93]], dtype=np.float32)


@pytest.fixture
def cv2(monkeypatch):
    module = ModuleType("cv2")
    module.error = type("error", (Exception,), {})
    module.INTER_AREA = 3

    def resize(image, size, interpolation):
        factor = image.shape[0] // size[1]
        assert image.shape[1] // size[0] == factor and interpolation == module.INTER_AREA
        return np.ascontiguousarray(image[::factor, ::factor])

    module.resize = resize
    module.FaceDetectorYN = ModuleType("FaceDetectorYN")
    module.FaceDetectorYN.create = YuNet
    monkeypatch.setitem(sys.modules, "cv2", module)
    return module


@pytest.fixture
def onnx(tmp_path):
    """A file that stands for a detector."""
    path = tmp_path / "detector.onnx"
    path.write_bytes(b"a network")
    return path


def red(height, width, top, left, bottom, right):
    image = torch.zeros(3, height, width)
    image[0, top:bottom, left:right] = 1
    return image


def test_a_whole_image_is_a_face():
    boxes, scores, landmarks = whole_image(torch.zeros(3, 3, 20, 30))
    assert boxes.tolist() == [[0, 0, 30, 20]] * 3 and scores.tolist() == [1, 1, 1]
    torch.testing.assert_close(landmarks[0], torch.tensor(LANDMARKS) / 112 * torch.tensor([30, 20]))


def without_landmarks(*faces):
    """Return boxes and scores as `LargestFace` expects them of what tells no landmarks."""
    return np.hstack([np.reshape(faces, (len(faces), 5)), np.full((len(faces), 10), np.nan)])


def test_the_face_with_the_largest_visible_area_counts():
    faces = without_landmarks([-90.0, 0, 20, 60, 0.99], [10, 10, 50, 50, 0.7], [40, 40, 60, 60, 0.8])
    boxes, scores, landmarks = LargestFace(lambda picture: faces)(torch.zeros(1, 3, 64, 64))
    assert boxes.tolist() == [[10, 10, 50, 50]] and scores.tolist() == pytest.approx([0.7])
    assert torch.equal(landmarks, upright(boxes))


def test_without_a_face_the_score_is_zero_and_the_box_is_the_image():
    boxes, scores, landmarks = LargestFace(lambda picture: np.empty((0, 15)))(torch.zeros(2, 3, 8, 16))
    assert boxes.tolist() == [[0, 0, 16, 8]] * 2 and scores.tolist() == [0, 0]
    assert landmarks.isfinite().all()


def test_boxes_are_exact_for_images_in_half_precision():
    found = without_landmarks([301.0, 257, 411, 389, 0.8])
    images = torch.zeros(1, 3, 515, 517, dtype=torch.bfloat16)
    assert whole_image(images)[0].tolist() == [[0, 0, 517, 515]]
    assert LargestFace(lambda picture: found)(images)[0].tolist() == [[301, 257, 411, 389]]


def test_no_images_have_no_faces():
    boxes, scores, landmarks = LargestFace(lambda picture: np.empty((0, 15)))(torch.zeros(0, 3, 8, 8))
    assert boxes.shape == (0, 4) and scores.shape == (0,) and landmarks.shape == (0, 5, 2)


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_yunet_sees_small_bgr_pictures_and_answers_in_pixels_of_the_image(cv2, onnx, scale):
    images = torch.stack(
        [
            red(320 * scale, 160 * scale, 40 * scale, 20 * scale, 120 * scale, 60 * scale),
            torch.zeros(3, 320 * scale, 160 * scale),
        ]
    )
    boxes, scores, landmarks = yunet(onnx, None)(images)
    assert boxes.tolist() == [
        [20 * scale, 40 * scale, 60 * scale, 120 * scale],
        [0, 0, 160 * scale, 320 * scale],
    ]
    assert scores.tolist() == pytest.approx([0.93, 0])
    assert landmarks[0].flatten().tolist() == [scale * place for place in range(20, 30)]


def test_an_onnx_file_that_opencv_cannot_read_is_refused(cv2):
    def fail(*arguments):
        raise cv2.error("OpenCV: Failed to parse\nONNX model")

    cv2.FaceDetectorYN.create = fail
    with pytest.raises(UserError, match=r"broken\.onnx: OpenCV cannot read it as YuNet: .*parse ONNX model"):
        yunet("broken.onnx", None)


@pytest.fixture
def scrfd(monkeypatch, onnx):
    """insightface with a detector that sees one face; notes how it is made."""

    class Scrfd:
        tells, asked = True, None

        def prepare(self, **settings):
            self.asked |= settings

        def detect(self, image):
            assert image.shape == (32, 32, 3) and (image[..., 2] == 255).all() and not image[..., :2].any()
            landmarks = np.arange(10.0).reshape(1, 5, 2) if self.tells else None
            return np.array([[1, 2, 11, 22, 0.75]], dtype=np.float32), landmarks

    def get_model(path, providers, provider_options=None):
        Scrfd.asked = {"providers": providers, "options": provider_options}
        return Scrfd() if path == str(onnx) else None

    package, zoo = ModuleType("insightface"), ModuleType("insightface.model_zoo")
    zoo.get_model = get_model
    package.model_zoo = zoo
    monkeypatch.setitem(sys.modules, "insightface", package)
    monkeypatch.setitem(sys.modules, "insightface.model_zoo", zoo)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    return Scrfd


def onnxruntime(monkeypatch, *providers):
    """Install an onnxruntime that knows these providers."""
    module = ModuleType("onnxruntime")
    module.get_available_providers = lambda: [*providers, "CPUExecutionProvider"]
    monkeypatch.setitem(sys.modules, "onnxruntime", module)


@pytest.mark.parametrize("tells", [True, False])
def test_insightface_is_asked_for_detection_alone(scrfd, onnx, tells):
    scrfd.tells = tells
    boxes, scores, landmarks = insightface(onnx, 0.6)(red(32, 32, 0, 0, 32, 32)[None])
    assert scrfd.asked == {
        "providers": ["CPUExecutionProvider"],
        "options": None,
        "ctx_id": -1,
        "input_size": (640, 640),
        "det_thresh": 0.6,
    }
    assert boxes.tolist() == [[1, 2, 11, 22]] and scores.tolist() == [0.75]
    assert torch.equal(
        landmarks, torch.arange(10.0).reshape(1, 5, 2) if tells else upright(torch.tensor([[1.0, 2, 11, 22]]))
    )
    with pytest.raises(UserError, match=r"recognition\.onnx: insightface cannot read it as a face detector"):
        insightface("recognition.onnx", None)


@pytest.mark.parametrize(
    ("asked", "known", "provider", "number"),
    [
        ("auto", ["CUDAExecutionProvider"], "CUDAExecutionProvider", 0),
        ("auto", [], "CPUExecutionProvider", -1),
        ("cuda", ["CUDAExecutionProvider"], "CUDAExecutionProvider", 0),
        ("cpu", ["CUDAExecutionProvider"], "CPUExecutionProvider", -1),
    ],
)
def test_insightface_looks_where_and_at_what_it_is_told_to(
    monkeypatch, scrfd, onnx, asked, known, provider, number
):
    onnxruntime(monkeypatch, *known)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    insightface(onnx, None, 320, asked)
    on_card = [{"device_id": "3", "use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}]
    assert scrfd.asked["options"] == (None if number else on_card)
    assert scrfd.asked["providers"] == [provider] and scrfd.asked["ctx_id"] == number
    assert scrfd.asked["input_size"] == (320, 320) and scrfd.asked["det_thresh"] == 0.5


def test_a_card_that_onnxruntime_does_not_know_is_refused(monkeypatch, scrfd, onnx):
    onnxruntime(monkeypatch)
    with pytest.raises(UserError, match=r"provider cuda: .* pip install onnxruntime-gpu"):
        insightface(onnx, None, provider="cuda")


def test_two_detectors_that_find_the_same_are_one(cv2, onnx, tmp_path):
    """So that a panel of judges looks for faces once."""
    copy, other = tmp_path / "copy.onnx", tmp_path / "other.onnx"
    copy.write_bytes(onnx.read_bytes())
    other.write_bytes(b"another network")
    same = {yunet(onnx, None), yunet(copy, 0.9), yunet(onnx, 0.9, 320)}
    assert len(same) == 1
    assert len({*same, yunet(onnx, 0.8), yunet(onnx, None, 640), yunet(other, None)}) == 4
    assert LargestFace(len) != LargestFace(len)  # nobody said what they are


@pytest.mark.parametrize(
    ("build", "module", "extra"), [(yunet, "cv2", "faces"), (insightface, "insightface", "insightface")]
)
def test_a_missing_extra_says_how_to_get_it(monkeypatch, build, module, extra):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError) as error:
        build("some.onnx", None)
    assert str(error.value) == f"this judge needs {module}: pip install 'fairbench-t2i[{extra}]'"


def test_the_crop_is_a_square_around_the_box():
    boxes = squared(torch.tensor([[10.0, 20, 30, 60], [0, 0, 8, 4]]), 1.5)
    assert boxes.tolist() == [[-10, 10, 50, 70], [-2, -4, 10, 8]]


def test_a_crop_of_the_whole_image_at_its_own_size_is_the_image():
    images = torch.rand(2, 3, 24, 24)
    assert torch.equal(crop(images, whole_image(images)[0], 24), images)


def test_an_enlarged_crop_is_bilinear_as_grid_sample_has_it():
    images = torch.rand(2, 3, 20, 20)
    boxes = torch.tensor([[4.0, 5, 12, 13], [6.5, 3.25, 10.5, 7.25]])
    places = (torch.arange(16) + 0.5) / 16
    grids = []
    for left, top, right, bottom in boxes.tolist():
        x, y = (left + places * (right - left)) / 20 * 2 - 1, (top + places * (bottom - top)) / 20 * 2 - 1
        grids.append(torch.stack(torch.meshgrid(x, y, indexing="xy"), -1))
    expected = F.grid_sample(images, torch.stack(grids), mode="bilinear", align_corners=False)
    torch.testing.assert_close(crop(images, boxes, 16), expected, atol=1e-6, rtol=0)


def test_a_reduced_crop_takes_the_mean_over_the_pixels_it_covers():
    images = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(crop(images, whole_image(images)[0], 16), F.avg_pool2d(images, 4))


def test_outside_the_image_is_black():
    whole = crop(torch.ones(1, 3, 16, 16), squared(torch.tensor([[0.0, 0, 16, 16]]), 2), 32)
    inside = torch.zeros(32, 32)
    inside[8:24, 8:24] = 1
    # the border pixel is interpolated with what lies outside
    assert torch.equal(whole[0, 0, 9:23, 9:23], inside[9:23, 9:23]) and not whole[..., :7].any()


@given(st.tuples(*[st.integers(0, 20)] * 2), st.integers(4, 12))
def test_a_mirrored_image_has_the_mirrored_crop(corner, side):
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(side))
    left, top = corner
    box = torch.tensor([[left, top, left + side, top + side]]).float()
    mirrored = torch.tensor([[32 - left - side, top, 32 - left, top + side]]).float()
    torch.testing.assert_close(
        crop(image.flip(3), mirrored, 8), crop(image, box, 8).flip(3), atol=1e-5, rtol=0
    )


def test_gradients_reach_the_pixels_of_the_box_and_no_others():
    images = torch.rand(1, 3, 32, 32, requires_grad=True)
    crop(images, torch.tensor([[8.0, 8, 24, 24]]), 16).sum().backward()
    touched = images.grad[0, 0].abs() > 0
    assert touched[8:24, 8:24].all() and touched.sum() == 16 * 16


def test_an_upright_face_is_cut_out_as_it_is():
    images = torch.rand(2, 3, 112, 140, generator=torch.Generator().manual_seed(0))
    boxes = torch.tensor([[3.0, 0, 115, 112], [20, 0, 132, 112]])
    faces = aligned(images, upright(boxes), 112)
    torch.testing.assert_close(faces[0], images[0, :, :, 3:115], rtol=0, atol=1e-4)
    torch.testing.assert_close(faces[1], images[1, :, :, 20:132], rtol=0, atol=1e-4)


@given(turn=st.floats(-0.6, 0.6), scale=st.floats(0.8, 1.5), right=st.floats(60, 70), down=st.floats(60, 70))
def test_a_face_looks_the_same_however_it_was_turned_scaled_and_moved(turn, scale, right, down):
    def face(u, v):
        """Return a smooth picture over a face, whose middle is 0 and whose side 2."""
        return np.stack([np.sin(2 * u + v), np.cos(u - 2 * v), u * v]) / 2 + 0.5

    turned = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) * 28 * scale
    middle = np.array([right, down])
    x, y = np.meshgrid(np.arange(130) + 0.5, np.arange(130) + 0.5)
    u, v = np.tensordot(np.linalg.inv(turned), np.stack([x - right, y - down]), 1)
    image = torch.tensor(face(u, v), dtype=torch.float32)[None]
    landmarks = (np.array(LANDMARKS) / 56 - 1) @ turned.T + middle
    seen = aligned(image, torch.tensor(landmarks, dtype=torch.float32)[None], 32)
    u, v = np.meshgrid((np.arange(32) + 0.5) / 16 - 1, (np.arange(32) + 0.5) / 16 - 1)
    np.testing.assert_allclose(seen[0].numpy(), face(u, v), atol=5e-3)


def test_landmarks_that_fit_no_face_are_fitted_by_least_squares():
    """Against the four linear equations that a turn, a scale and a shift are the least squares of."""
    generator = np.random.default_rng(0)
    wanted = np.array(LANDMARKS)
    found = wanted * 0.8 + generator.normal(0, 4, (5, 2)) + 10
    # x' = a x - b y + c, y' = b x + a y + d
    rows = [[x, -y, 1, 0] for x, y in found] + [[y, x, 0, 1] for x, y in found]
    a, b, c, d = np.linalg.lstsq(np.array(rows), wanted.T.ravel(), rcond=None)[0]
    x, y = np.meshgrid(np.arange(160) + 0.5, np.arange(160) + 0.5)
    image = torch.tensor(np.stack([a * x - b * y + c, b * x + a * y + d, x]), dtype=torch.float32)[None]
    seen = aligned(image, torch.tensor(found, dtype=torch.float32)[None], 112)[0].numpy()
    inner = slice(30, 90)  # what does not reach out of the picture
    there = np.arange(112) + 0.5
    np.testing.assert_allclose(seen[0, inner, inner], np.tile(there[inner], (60, 1)), atol=1e-2)
    np.testing.assert_allclose(seen[1, inner, inner].T, np.tile(there[inner], (60, 1)), atol=1e-2)


@pytest.mark.parametrize("size", [16, 4])
def test_every_pixel_of_a_face_has_a_part_in_it_and_no_other(size):
    image = torch.rand(1, 3, 40, 40, requires_grad=True)
    aligned(image, upright(torch.tensor([[10.0, 10, 30, 30]])), size).sum().backward()
    assert image.grad[..., 11:29, 11:29].abs().min() > 0 and not image.grad[..., :8, :8].any()
