"""One of the processes of test_processes.py: trains, also with a judge that fails in one, and clipped.

Run as a script with the directory to write to and, for the second training, the environment of a launcher.
"""

import sys
from pathlib import Path
from types import ModuleType

if __name__ == "__main__":  # a package of somebody else is called tests, too
    sys.modules["tests"] = ModuleType("tests")
    sys.modules["tests"].__path__ = [str(Path(__file__).parents[1])]

import torch
from safetensors.torch import save_file

from fairbench.finetuning.processes import Processes
from fairbench.methods.biased_dft import BiasedDFT
from tests.finetuning.stand_ins import ColourJudge, make_context

SETTINGS = {
    "prompts_per_update": 3,  # an odd number: one process has twice as much to do
    "images_per_prompt": 4,
    "noises_per_prompt": 4,
    "timesteps_per_update": 2,
    "rank": 4,
    "learning_rate": 1e-2,
    "optimizer": "sgd",  # Adam would blow rounding up where a gradient is nearly zero
    "clip": None,
}

CLIP = 1e-3
"""Less than any gradient is long."""


class BlindSecond(ColourJudge):
    """Fails in the first update, and only in the second process."""

    failed = False

    def logits(self, images, found=None):
        if Processes().index == 1 and images.requires_grad and not self.failed:
            self.failed = True
            raise FloatingPointError
        return super().logits(images, found)


def train(directory, judge, **changes):
    """Return what is learnt in two updates, with the log of loss and skipped updates."""
    rows = []
    context = make_context(directory, updates=2, attributes="gender,race", judge=judge, log=rows.append)
    tensors = BiasedDFT(BiasedDFT.Config(**SETTINGS | changes)).fit(context).tensors
    numbers = {name: torch.tensor([row.get(name, 0.0) for row in rows]) for name in ("loss", "nonfinite")}
    return tensors | numbers


def main(directory):
    index = Processes().index
    for name, judge in (("seeing", ColourJudge()), ("blind", BlindSecond())):
        save_file(train(directory / name, judge), directory / f"{name}-{index}.safetensors")
    save_file(
        train(directory / "clipped", ColourJudge(), clip=CLIP), directory / f"clipped-{index}.safetensors"
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))
