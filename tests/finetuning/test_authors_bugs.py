"""Mistakes of the released code of arXiv 2311.07604, each kept out by a test.

Others are elsewhere: uneven micro-batches in test_objective.py and test_direct_finetuning.py, gradients that
are finite in one process only in test_processes.py, resuming in tests/runs, too long prompts in tests/models.
"""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from fairbench.alignment import expected_targets
from fairbench.finetuning.faces import pixels_inside
from fairbench.finetuning.semantics import factors
from fairbench.images.files import save_image
from fairbench.runs.generation import generate_missing


def test_noise_is_the_same_in_every_process():
    """They seeded with hash(prompt), which Python salts anew for every process."""
    code = "from fairbench.seeding import image_seed; print(image_seed('s', '1', 'p', 0, 0))"
    seeds = [
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": salt},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for salt in ("1", "2")
    ]
    assert seeds[0] == seeds[1] != ""


def test_a_prompt_whose_images_all_exist_is_passed_over(tmp_path):
    """Theirs ended with an error."""
    import pandas as pd

    rows = pd.DataFrame({"prompt": ["a"], "seed": [1], "image": ["a.png"]})
    save_image(tmp_path / "a.png", torch.zeros(3, 4, 4))
    told = []
    generate_missing(None, rows, tmp_path, told.append)
    assert told == [1]


def test_an_original_picture_without_a_face_has_no_face_region():
    """Theirs covered everything down to the lower right corner."""
    found = pixels_inside(torch.tensor([[2, 2, 6, 6]]), torch.zeros(1, 4, dtype=torch.long), 8, 8)
    assert not found.any()


def test_pictures_without_a_face_weigh_the_same_in_every_experiment():
    """Theirs weighed 1 in three experiments and the smallest factor in the other three."""
    none = torch.tensor([-1])
    for names in (["gender"], ["gender", "race"]):
        labels = dict.fromkeys(names, none)
        originals = {f"class/{name}": none for name in names}
        each = {"gender": 0.2, "race": 0.6}
        assert factors(labels, originals, each).item() == pytest.approx(0.2)


@pytest.mark.parametrize("share", [0.1, 0.25, 0.8])
def test_a_target_other_than_one_half_goes_to_the_class_it_names(share):
    """Theirs gave the share to the other class."""
    probabilities = torch.rand(400, 1, generator=torch.Generator().manual_seed(0))
    found = expected_targets(
        {"gender": torch.cat([probabilities, 1 - probabilities], 1)}, {"gender": [share, 1 - share]}
    )
    assert found["gender"].q.mean(0)[0].item() == pytest.approx(share, abs=1e-3)
    assert (found["gender"].label == 0).float().mean().item() == pytest.approx(share, abs=0.01)


def test_old_is_no_dearer_than_young():
    """Theirs made transport towards "old" dearer."""
    rng = np.random.default_rng(0)
    judged = {name: torch.from_numpy(rng.dirichlet([1, 1], size=8)) for name in ("gender", "age")}
    swapped = judged | {"age": judged["age"].flip(1)}
    target = {"gender": [0.5, 0.5], "age": [0.5, 0.5]}
    old, young = (expected_targets(seen, target)["age"].q for seen in (judged, swapped))
    torch.testing.assert_close(old, young.flip(1))


def test_a_single_process_needs_no_process_group():
    """Theirs gathered over one at every step."""
    from fairbench.finetuning.processes import Processes

    alone, values = Processes(), [torch.ones(2)]
    alone.add_up(values)
    assert alone.count == 1 and alone.first and values[0].tolist() == [1, 1]
    assert not torch.distributed.is_initialized()
