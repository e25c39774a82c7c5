"""Where the face is: one box and one score per image, and the crop that attribute networks look at.

A detector is any callable from N x 3 x H x W images in [0, 1] to N x 4 boxes and N scores.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from fairbench.errors import UserError
from fairbench.networks import one_line

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

YUNET_LONGEST = 320
"""Pixels of the longer side that YuNet is shown: it finds faces of about 10 to 300 pixels (OpenCV Zoo)."""
INSIGHTFACE_SIZE = (640, 640)
"""What arXiv 2311.07604 detects at."""


class FaceDetector(Protocol):
    """Images to faces."""

    def __call__(self, images: "Tensor") -> "tuple[Tensor, Tensor]":
        """Return N x 4 boxes (left, top, right, bottom in pixels) and N scores in [0, 1], 0 for no face."""


def whole_image(images: "Tensor") -> "tuple[Tensor, Tensor]":
    """Take every image for a face that fills it."""
    import torch

    height, width = images.shape[-2:]
    # single precision whatever the images have: halves cannot count all pixels
    box = torch.tensor([0.0, 0, width, height], device=images.device)
    return box.expand(len(images), 4), torch.ones(len(images), device=images.device)


@dataclass(frozen=True)
class LargestFace:
    """The face with the largest visible area, as in arXiv 2311.07604; the whole image where there is none.

    Parameters
    ----------
    find
        From one H x W x 3 picture, BGR in 0..255, to M x 5: left, top, right, bottom, score.
    """

    find: "Callable[[np.ndarray], np.ndarray]"

    def __call__(self, images: "Tensor") -> "tuple[Tensor, Tensor]":
        """Return boxes and scores; without gradients, as a box has none."""
        import numpy as np
        import torch

        pixels = images.detach().clamp(0, 1).mul(255).round().byte().flip(1).permute(0, 2, 3, 1).cpu().numpy()
        found = np.array([self._largest(np.ascontiguousarray(picture)) for picture in pixels])
        faces = torch.tensor(found.reshape(len(images), 5), dtype=torch.float32, device=images.device)
        return faces[:, :4], faces[:, 4].clamp(0, 1)

    def _largest(self, picture: "np.ndarray") -> "np.ndarray":
        import numpy as np

        height, width = picture.shape[:2]
        faces = self.find(picture)
        if not len(faces):
            return np.array([0, 0, width, height, 0])
        visible = faces[:, :4].clip(0, [width, height, width, height])
        return faces[np.prod(visible[:, 2:] - visible[:, :2], axis=1).argmax()]


def yunet(path: Path, threshold: float | None) -> LargestFace:
    """Return OpenCV's YuNet, read from an ONNX file; ``threshold`` 0.9 unless given, as in OpenCV.

    Raises
    ------
    UserError
        OpenCV is not installed, or cannot read the file.
    """
    import numpy as np

    cv2 = _extra("cv2", "faces")
    try:
        detector = cv2.FaceDetectorYN.create(str(path), "", (YUNET_LONGEST,) * 2, threshold or 0.9)
    except cv2.error as error:
        raise UserError(f"{path}: OpenCV cannot read it as YuNet: {one_line(error)}") from error

    def find(picture: np.ndarray) -> np.ndarray:
        size = np.array(picture.shape[1::-1])
        shown = np.maximum(1, np.rint(size * min(1, YUNET_LONGEST / size.max()))).astype(int)
        if (shown != size).any():
            picture = cv2.resize(picture, tuple(map(int, shown)), interpolation=cv2.INTER_AREA)
        detector.setInputSize(tuple(map(int, shown)))
        _, faces = detector.detect(picture)
        if faces is None:
            return np.empty((0, 5))
        # M x 15: left, top, width, height, five landmarks, score
        corner, extent = faces[:, :2] * (size / shown), faces[:, 2:4] * (size / shown)
        return np.hstack([corner, corner + extent, faces[:, 14:]])

    return LargestFace(find)


def insightface(path: Path, threshold: float | None) -> LargestFace:
    """Return a detector of insightface, read from an ONNX file; ``threshold`` 0.5 unless given, as there.

    Raises
    ------
    UserError
        insightface is not installed, or cannot read the file as a detector.
    """
    zoo = _extra("insightface.model_zoo", "insightface")
    try:
        detector: Any = zoo.get_model(str(path), providers=["CPUExecutionProvider"])
        detector.prepare(ctx_id=-1, input_size=INSIGHTFACE_SIZE, det_thresh=threshold or 0.5)
        detect = detector.detect
    except Exception as error:  # whatever onnxruntime makes of the file
        raise UserError(
            f"{path}: insightface cannot read it as a face detector: {one_line(error)}"
        ) from error
    return LargestFace(lambda picture: detect(picture)[0])


def _extra(module: str, extra: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise UserError(
            f"this judge needs {module.split('.')[0]}: pip install 'fairbench-t2i[{extra}]'"
        ) from error


def squared(boxes: "Tensor", enlarge: float) -> "Tensor":
    """Return square boxes around the same centres, with sides of ``enlarge`` times the longer side."""
    import torch

    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    reach = (boxes[:, 2:] - boxes[:, :2]).amax(1, keepdim=True) * enlarge / 2
    return torch.cat([centre - reach, centre + reach], 1)


def crop(images: "Tensor", boxes: "Tensor", size: int) -> "Tensor":
    """Return N x 3 x ``size`` x ``size`` crops, black outside the image; differentiable in the images.

    Each pixel of a crop is the mean of bilinear samples, at least one per image pixel it covers.
    """
    import torch
    from torchvision.ops import roi_align

    rows = torch.arange(len(images), device=images.device)[:, None]
    return roi_align(images.float(), torch.cat([rows, boxes], 1).float(), size, aligned=True)
