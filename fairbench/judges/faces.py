"""Where the face is: box, score and landmarks per image, and the crop that attribute networks look at.

A detector is any callable from N x 3 x H x W images in [0, 1] to `Detections`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from fairbench.errors import UserError, one_line
from fairbench.storage import sha256_of

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

YUNET_SIZE = 320
"""Pixels of the longer side that YuNet is shown: it finds faces of about 10 to 300 pixels (OpenCV Zoo)."""
INSIGHTFACE_SIZE = 640
"""What arXiv 2311.07604 detects at."""
Provider = Literal["auto", "cpu", "cuda"]
"""What computes an ONNX network; auto: the graphics card where onnxruntime knows one."""
CPU_PROVIDER, CUDA_PROVIDER = "CPUExecutionProvider", "CUDAExecutionProvider"


LANDMARKS = (
    (38.2946, 51.6963),
    (73.5318, 51.5014),
    (56.0252, 71.7366),
    (41.5493, 92.3655),
    (70.7299, 92.2041),
)
"""Where eyes, nose and corners of the mouth lie in the pictures that face networks learn from."""
FRAME = 112
"""The side of these pictures; a landmark on the left edge is at 0 here, and one on the right edge at 112."""


class Detections(NamedTuple):
    """One face per image, in pixels.

    Attributes
    ----------
    boxes
        N x 4: left, top, right, bottom.
    scores
        N in [0, 1], 0 for no face.
    landmarks
        N x 5 x 2, as x and y: the two eyes, the nose, the two corners of the mouth, each pair from left to
        right in the picture. Those of an upright face in the box where a detector tells none.
    """

    boxes: "Tensor"
    scores: "Tensor"
    landmarks: "Tensor"

    def of(self, rows: "slice | Tensor") -> "Detections":
        """Return those of some of the images."""
        return Detections(*(column[rows] for column in self))


class FaceDetector(Protocol):
    """Images to faces."""

    def __call__(self, images: "Tensor") -> Detections:
        """Return the face of each of N x 3 x H x W images."""


def whole_image(images: "Tensor") -> Detections:
    """Take every image for a face that fills it."""
    import torch

    height, width = images.shape[-2:]
    # single precision whatever the images have: halves cannot count all pixels
    box = torch.tensor([0.0, 0, width, height], device=images.device)
    boxes = box.expand(len(images), 4)
    return Detections(boxes, torch.ones(len(images), device=images.device), upright(boxes))


@dataclass(frozen=True)
class LargestFace:
    """The face with the largest visible area, as in arXiv 2311.07604; the whole image where there is none.

    Parameters
    ----------
    find
        From one H x W x 3 picture, BGR in 0..255, to M x 15: left, top, right, bottom, score, and x and y of
        the five landmarks, nan where they are not known.
    identity
        All that decides what is found: two of the same find the same, and one look is enough for both.
    """

    find: "Callable[[np.ndarray], np.ndarray]" = field(compare=False)
    identity: object = field(default_factory=object)

    def __call__(self, images: "Tensor") -> Detections:
        """Return what is found; without gradients, as a box has none."""
        import numpy as np
        import torch

        pixels = images.detach().clamp(0, 1).mul(255).round().byte().flip(1).permute(0, 2, 3, 1).cpu().numpy()
        found = np.array([self._largest(np.ascontiguousarray(picture)) for picture in pixels])
        faces = torch.tensor(found.reshape(len(images), 15), dtype=torch.float32, device=images.device)
        boxes, landmarks = faces[:, :4], faces[:, 5:].unflatten(1, (5, 2))
        landmarks = torch.where(landmarks.isfinite(), landmarks, upright(boxes))
        return Detections(boxes, faces[:, 4].clamp(0, 1), landmarks)

    def _largest(self, picture: "np.ndarray") -> "np.ndarray":
        import numpy as np

        height, width = picture.shape[:2]
        faces = self.find(picture)
        if not len(faces):
            return np.array([0, 0, width, height, 0, *[np.nan] * 10])
        visible = faces[:, :4].clip(0, [width, height, width, height])
        return faces[np.prod(visible[:, 2:] - visible[:, :2], axis=1).argmax()]


def yunet(path: Path, threshold: float | None, size: int | None = None) -> LargestFace:
    """Return OpenCV's YuNet, read from an ONNX file, on the CPU.

    Parameters
    ----------
    path
        The file.
    threshold
        0.9 unless given, as in OpenCV.
    size
        Pixels of the longer side of what it is shown, never more than the picture has; `YUNET_SIZE` unless
        given.

    Raises
    ------
    UserError
        OpenCV is not installed, or cannot read the file.
    """
    import numpy as np

    cv2 = _extra("cv2", "faces")
    longest, threshold = size or YUNET_SIZE, threshold or 0.9
    try:
        detector = cv2.FaceDetectorYN.create(str(path), "", (longest, longest), threshold)
    except cv2.error as error:
        raise UserError(f"{path}: OpenCV cannot read it as YuNet: {one_line(error)}") from error

    def find(picture: np.ndarray) -> np.ndarray:
        size = np.array(picture.shape[1::-1])
        shown = np.maximum(1, np.rint(size * min(1, longest / size.max()))).astype(int)
        if (shown != size).any():
            picture = cv2.resize(picture, tuple(map(int, shown)), interpolation=cv2.INTER_AREA)
        detector.setInputSize(tuple(map(int, shown)))
        _, faces = detector.detect(picture)
        if faces is None:
            return np.empty((0, 15))
        # M x 15: left, top, width, height, five landmarks, score
        corner, extent = faces[:, :2] * (size / shown), faces[:, 2:4] * (size / shown)
        landmarks = faces[:, 4:14] * np.tile(size / shown, 5)
        return np.hstack([corner, corner + extent, faces[:, 14:], landmarks])

    return LargestFace(find, ("yunet", sha256_of(path), threshold, longest))


def insightface(
    path: Path, threshold: float | None, size: int | None = None, provider: Provider = "auto"
) -> LargestFace:
    """Return a detector of insightface, read from an ONNX file.

    Parameters
    ----------
    path
        The file.
    threshold
        0.5 unless given, as there.
    size
        Pixels of both sides of what it is shown, a multiple of 32; `INSIGHTFACE_SIZE` unless given.
    provider
        What computes it.

    Raises
    ------
    UserError
        insightface is not installed, cannot read the file as a detector, or there is no such provider.
    """
    import numpy as np

    zoo = _extra("insightface.model_zoo", "insightface")
    side, threshold = size or INSIGHTFACE_SIZE, threshold or 0.5
    name = onnx_provider(provider)
    on_cpu = name == CPU_PROVIDER
    try:
        options = {} if on_cpu else {"provider_options": [_on_card()]}
        detector: Any = zoo.get_model(str(path), providers=[name], **options)
        # a negative number would send it back to the CPU
        detector.prepare(ctx_id=-1 if on_cpu else 0, input_size=(side, side), det_thresh=threshold)
        detect = detector.detect
    except Exception as error:  # whatever onnxruntime makes of the file
        raise UserError(
            f"{path}: insightface cannot read it as a face detector: {one_line(error)}"
        ) from error

    def find(picture: np.ndarray) -> np.ndarray:
        boxes, landmarks = detect(picture)
        told = np.full((len(boxes), 10), np.nan) if landmarks is None else landmarks.reshape(-1, 10)
        return np.hstack([boxes, told])

    return LargestFace(find, ("insightface", sha256_of(path), threshold, side, name))


def onnx_provider(provider: Provider) -> str:
    """Return the execution provider of onnxruntime that ``provider`` stands for.

    Raises
    ------
    UserError
        The graphics card is asked for, and the onnxruntime that is installed knows none.
    """
    try:
        known = import_module("onnxruntime").get_available_providers()
    except ImportError:
        known = [CPU_PROVIDER]
    if provider == "cpu" or (provider == "auto" and CUDA_PROVIDER not in known):
        return CPU_PROVIDER
    if CUDA_PROVIDER not in known:
        raise UserError("provider cuda: onnxruntime knows no graphics card here: pip install onnxruntime-gpu")
    return CUDA_PROVIDER


def _on_card() -> dict[str, str]:
    """Return how onnxruntime is to compute: on the card of this process, exactly, without trying out."""
    import torch

    card = torch.cuda.current_device() if torch.cuda.is_available() else 0
    return {"device_id": str(card), "use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}


def _extra(module: str, extra: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise UserError(
            f"this judge needs {module.split('.')[0]}: pip install 'fairbench-t2i[{extra}]'"
        ) from error


def upright(boxes: "Tensor") -> "Tensor":
    """Return the landmarks, N x 5 x 2, of faces that fill N x 4 boxes as they fill what `LANDMARKS` is of."""
    corner, extent = boxes[:, None, :2], (boxes[:, 2:] - boxes[:, :2])[:, None]
    return corner + extent * boxes.new_tensor(LANDMARKS) / FRAME


def squared(boxes: "Tensor", enlarge: float) -> "Tensor":
    """Return square boxes around the same centres, with sides of ``enlarge`` times the longer side."""
    import torch

    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    reach = (boxes[:, 2:] - boxes[:, :2]).amax(1, keepdim=True) * enlarge / 2
    return torch.cat([centre - reach, centre + reach], 1)


def aligned(images: "Tensor", landmarks: "Tensor", size: int) -> "Tensor":
    r"""Return N x 3 x ``size`` x ``size`` faces, turned, scaled and moved to where networks expect them.

    .. math:: (a, b) = \arg\min \sum_k |a\,d_k + b - l_k|^2

    with :math:`d_k` the landmarks of a picture and :math:`l_k` those of `LANDMARKS` at this size, as complex
    numbers; the face shows at x what the picture has at :math:`(x - b) / a`. Black outside the picture;
    differentiable in ``images``. Each pixel is the mean of bilinear samples, at least one per pixel that it
    covers of a face no larger than the picture.

    Parameters
    ----------
    images : Tensor, N x 3 x H x W
    landmarks : Tensor, N x 5 x 2
        In pixels of the picture; not all in one point.
    size : int
        Side of the faces.
    """
    import torch
    from torch.nn.functional import avg_pool2d, grid_sample

    found = torch.view_as_complex(landmarks.double().contiguous())
    wanted = torch.view_as_complex(found.real.new_tensor(LANDMARKS)) * (size / FRAME)
    around, middle = found - found.mean(1, keepdim=True), wanted.mean()
    a = (around.conj() * (wanted - middle)).sum(1, keepdim=True) / around.abs().square().sum(1, keepdim=True)
    b = middle - a * found.mean(1, keepdim=True)
    # of the picture's size, not of the faces': a face must not depend on those it is batched with
    finer = math.ceil(min(images.shape[2:]) / size)
    side = (torch.arange(size * finer, device=images.device, dtype=torch.double) + 0.5) / finer
    pixels = torch.complex(*torch.meshgrid(side, side, indexing="xy")).flatten()
    source = torch.view_as_real((pixels - b) / a).unflatten(1, (len(side), len(side)))
    extent = source.new_tensor(images.shape[:1:-1])  # width, height
    sampled = grid_sample(images.float(), (2 * source / extent - 1).float(), align_corners=False)
    return avg_pool2d(sampled, finer)


def crop(images: "Tensor", boxes: "Tensor", size: int) -> "Tensor":
    """Return N x 3 x ``size`` x ``size`` crops, black outside the image; differentiable in the images.

    Each pixel of a crop is the mean of bilinear samples, at least one per image pixel it covers.
    """
    import torch
    from torchvision.ops import roi_align

    rows = torch.arange(len(images), device=images.device)[:, None]
    return roi_align(images.float(), torch.cat([rows, boxes], 1).float(), size, aligned=True)
