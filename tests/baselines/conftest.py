"""A tiny model whose text encoder takes a whole sentence, and the embedded one for its words."""

from itertools import count

import pytest

from fairbench.models.loading import load_model
from fairbench.models.text_to_image import Defaults, TextToImage
from tests.finetuning.stand_ins import make_context
from tests.tiny import tiny_pipeline


@pytest.fixture(scope="module")
def model():
    return TextToImage(tiny_pipeline(length=96), "tiny", Defaults(steps=2, guidance=3.0))


@pytest.fixture(scope="module")
def portraits():
    return load_model("portraits")


@pytest.fixture
def task(model, tmp_path):
    """Make contexts on the tiny model, each in a directory of its own unless it is named."""
    numbers = count()

    def make(directory=None, **changes):
        return make_context(directory or tmp_path / str(next(numbers)), **({"model": model} | changes))

    return make
