"""What processes of the tests begin with: all that a run imports, and one thread."""

import matplotlib.figure  # noqa: F401
import peft  # noqa: F401
import torch
import torchmetrics  # noqa: F401
from diffusers import StableDiffusionPipeline  # noqa: F401

import fairbench.cli.main
import fairbench.report.pictures
import fairbench.runs.evaluate
import fairbench.runs.matrix  # noqa: F401
import tests.runs.small  # noqa: F401

torch.set_num_threads(1)
