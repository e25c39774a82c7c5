"""Images that are there already, and the suite that some of them are of."""

import numpy as np
from PIL import Image

from fairbench.suites import PromptSuite

SUITE = PromptSuite(
    name="jobs", version="1", licence="MIT", source="made up", placeholder="job",
    templates=["a {job}"], splits={"test": ["cook", "maid", "dj"]},
)  # fmt: skip


def image(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((2, 2, 3), dtype=np.uint8)).save(path, format="png")
