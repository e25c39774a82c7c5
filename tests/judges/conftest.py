import shutil
import sys
from types import ModuleType

import numpy as np
import pytest
import torch

from tests.judges.checkpoints import (
    save_clip,
    save_vit,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("networks")


@pytest.fixture(scope="module")
def vit(folder):
    return save_vit(folder / "vit")


@pytest.fixture
def copy(folder, vit, tmp_path):
    shutil.copytree(folder / "vit", tmp_path / "vit")
    return tmp_path


@pytest.fixture(scope="module")
def images():
    return torch.rand(5, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def clip(folder):
    return save_clip(folder / "clip")


@pytest.fixture
def detector(monkeypatch):
    """OpenCV with a YuNet that sees a face of 8 x 16 pixels at (8, 4) in every picture but black ones."""
    cv2 = ModuleType("cv2")
    cv2.error = type("error", (Exception,), {})

    class YuNet:
        create = classmethod(lambda cls, *arguments: cls())
        setInputSize = staticmethod(lambda size: None)

        @staticmethod
        def detect(picture):
            row = [8, 4, 8, 16, *range(10), 0.8]
            return 1, np.array([row], dtype=np.float32) if picture.any() else None

    cv2.FaceDetectorYN = YuNet
    monkeypatch.setitem(sys.modules, "cv2", cv2)
