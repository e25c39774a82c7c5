"""The metric failure museum: what other tools compute, and that ours differs where theirs is wrong.

Each test holds the wrong formula in a few lines of its own. Sources: the tools' public code, read for each.
"""

import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.linalg import sqrtm

from fairbench.errors import UserError
from fairbench.features import load_features
from fairbench.images.files import save_image
from fairbench.metrics.bias import bias, class_counts, frequencies, labels_of
from fairbench.metrics.floor import noise_floor
from fairbench.metrics.gap import gap_estimate
from fairbench.metrics.intervals import mean_interval
from fairbench.metrics.quality import fid
from fairbench.metrics.summary import summarise
from fairbench.runs.generation import generate_missing
from fairbench.seeding import generators, image_seed
from fairbench.storage import atomic_write_json
from fairbench.store.provenance import describe_machine


def records(labels: list[int], classes: int = 2) -> pd.DataFrame:
    """One prompt; -1 is an image without a face."""
    table = np.eye(classes)[np.array(labels).clip(0)]
    columns = {f"j/race/{k}": table[:, k] for k in range(classes)}
    face = (np.array(labels) >= 0).astype(float)
    return pd.DataFrame({"prompt_id": "a", "prompt": "a", "j/face": face} | columns)


def test_m1_no_usable_image_is_no_value_not_the_largest_bias() -> None:
    """HEIM's gender metric: the share of no images is 0, hence |0 - 0.5|, the largest there is."""
    genders: list[int] = []
    wrong = abs((float(np.mean(genders)) if genders else 0) - 0.5)
    assert wrong == 0.5
    found = summarise(records([-1, -1, -1]), "j", ["race"])["race"]
    assert found["bias_mean"] is None and found["debiased"] is None and found["face_rate"] == 0
    assert found["bounds"] == [pytest.approx(1 / 3), 1]  # three images: the most even is two to one


def test_m2_images_without_a_face_are_not_in_the_denominator() -> None:
    """HEIM's skin tone: what could not be read stays among the images that shares are taken of."""
    labels = [0, 0, 1, 1, -1, -1, -1, -1]
    wrong = class_counts(labels, 2) / len(labels)
    assert wrong.sum() == 0.5 and abs(wrong - 0.5).sum() == 0.5  # a fair model looks half biased
    assert frequencies(labels, 2).tolist() == [0.5, 0.5]
    found = summarise(records(labels), "j", ["race"])["race"]
    assert found["bias_mean"] == 0 and (found["usable"], found["images"]) == (4, 8)
    assert found["bounds"] == [0, 0.5]  # they are not forgotten either


def test_m3_the_whole_range_is_used() -> None:
    """BIGbench and BiasIG: (cosine + 1) / 2 of share vectors; and 1, perfect, for no common class."""

    def wrong(shares: list[float]) -> float:
        a, b = np.array(shares), np.array([0.5, 0.5])
        return float((a @ b / np.linalg.norm(a) / np.linalg.norm(b) + 1) / 2)

    assert wrong([0, 1]) == pytest.approx(0.854, abs=0.001) and wrong([0.4, 0.6]) > 0.99
    assert [float(bias(shares)) for shares in ([0, 1], [0.5, 0.5])] == [1, 0]
    assert bias([0.4, 0.6]) == pytest.approx(0.2)
    with pytest.raises(UserError):  # nothing in common with what was asked for: an error, not a perfect score
        summarise(records([0, 1]), "j", ["gender"])


def test_m4_classes_that_never_occur_count() -> None:
    """T2I-BiasBench-Code: only observed classes count, so always the same group has a divergence of 0."""

    def wrong(labels: list[int]) -> float:
        shares = np.unique(labels, return_counts=True)[1] / len(labels)
        return float((shares * np.log(shares * len(shares))).sum())

    one_group = [2] * 40
    assert wrong(one_group) == 0 and wrong([0] * 28 + [1] * 12) == pytest.approx(0.082, abs=0.001)
    found = summarise(records(one_group, 4), "j", ["race"])["race"]
    assert found["bias_mean"] == 0.5 == 2 / 4 and found["debiased"] == pytest.approx(math.sqrt(0.5))
    assert list(found["per_prompt"][0]["counts"].values()) == [0, 0, 40, 0]


def test_m5_nine_images_have_a_floor_and_none_do_not_divide_by_zero() -> None:
    """DALL-Eval: nine images of each prompt, no floor beside the number, and a total that may be 0."""
    rng = np.random.default_rng(0)
    fair = rng.multinomial(9, [0.5, 0.5], 20_000)
    wrong = bias(fair / 9).mean()
    assert wrong == pytest.approx(0.273, abs=0.003)  # reads as bias, of a model that has none
    assert noise_floor(9, 2) == pytest.approx(wrong, abs=0.003)
    estimate = gap_estimate(fair)
    assert estimate is not None and estimate["gap"] < 0.05 and estimate["interval"] is not None
    assert estimate["interval"][0] == 0
    with pytest.raises(ZeroDivisionError):
        _ = [count / sum([0, 0]) for count in [0, 0]]
    assert np.isnan(frequencies([-1], 2)).all() and noise_floor([0], 2) is None


def test_m6_the_number_of_images_is_not_part_of_the_score() -> None:
    """OpenBias: 1 - H / log K of ten images; fair models score above 0, and one image scores 1."""

    def wrong(counts: np.ndarray) -> np.ndarray:
        shares = counts / counts.sum(axis=1, keepdims=True)
        entropy = -(shares * np.log(np.where(shares > 0, shares, 1))).sum(axis=1)
        return 1 - entropy / np.log(counts.shape[1])

    rng = np.random.default_rng(0)
    fair = rng.multinomial(10, [0.5, 0.5], 20_000)
    assert wrong(fair).mean() == pytest.approx(0.077, abs=0.003)
    assert wrong(rng.multinomial(10, [0.25] * 4, 20_000)).mean() == pytest.approx(0.124, abs=0.003)
    assert wrong(np.array([[1, 0]]))[0] == 1
    estimate = gap_estimate(fair)
    assert estimate is not None and abs(estimate["square"]) < 0.005
    assert gap_estimate([[1, 0]]) is None  # one image says nothing of a gap


def test_m7_noise_labels_and_resuming_do_not_depend_on_the_process(tmp_path: Path) -> None:
    """The reference implementation: salted seeds, a half counted twice, and a crash on a finished prompt."""
    ask = "import sys; sys.path.pop(0); from fairbench.seeding import image_seed as s; "
    ask += "print(hash('a nurse') + 5, s('jobs', '1', 'nurse', 5, 0))"
    answers = [
        subprocess.run(
            [sys.executable, "-c", ask],
            env=os.environ | {"PYTHONHASHSEED": salt},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        for salt in ("1", "2")
    ]
    (wrong, ours), (wrong_again, ours_again) = answers
    assert wrong != wrong_again and ours == ours_again == str(image_seed("jobs", "1", "nurse", 5, 0))

    halves = np.array([[0.5, 0.5], [0.9, 0.1]])
    assert (halves >= 0.5).sum() == 3  # two images, three labels
    assert class_counts(labels_of(halves), 2).sum() == 2

    with pytest.raises((RuntimeError, ValueError)):
        torch.cat([])  # what is left to do for a prompt that is done
    save_image(tmp_path / "0.png", torch.zeros(3, 8, 8))
    done: list[int] = []
    rows = pd.DataFrame({"prompt": ["a"], "seed": [1], "image": ["0.png"]})
    generate_missing(lambda prompts, seeds: torch.cat([]), rows, tmp_path, done.append)
    assert done == [1]


def test_m8_the_bootstrap_is_not_divided_by_its_replicates() -> None:
    """lighteval: sd / sqrt(B) of the replicates. openai/evals: n / 2 values, without replacement."""
    rng, prompts, replicates = np.random.default_rng(0), 200, 1000
    values = rng.choice([0.0, 1.0], prompts)
    true_error = values.std(ddof=1) / math.sqrt(prompts)
    means = rng.choice(values, (replicates, prompts)).mean(axis=1)
    wrong = means.std() / math.sqrt(replicates)
    assert true_error / wrong == pytest.approx(31.6, rel=0.1)
    halves = np.array([rng.permutation(values)[: prompts // 2].mean() for _ in range(replicates)])
    assert halves.std() == pytest.approx(
        true_error, rel=0.1
    )  # right by luck, which it is not for any other share
    thirds = np.array([rng.permutation(values)[: prompts // 3].mean() for _ in range(replicates)])
    assert thirds.std() > 1.3 * true_error
    interval = mean_interval(values)
    assert interval is not None
    assert (interval[1] - interval[0]) / 2 == pytest.approx(1.96 * true_error, rel=0.05)


def test_m9_a_long_prompt_keeps_its_end_or_is_refused() -> None:
    """torchmetrics' CLIPScore: cut at the context length, without the token whose state CLIP reads."""
    clip = load_features("clip-eval")
    assert clip.tokenizer is not None
    length, end = clip.description.kwargs["text_cfg"]["context_length"], clip.tokenizer.eos_token_id
    prompt = "a photo of the face of a nurse, " * length
    wrong = clip.tokenizer(prompt, truncation=False).input_ids[:length]
    assert end not in wrong
    with pytest.raises(UserError, match="shorten it"):
        clip.text([prompt])
    assert end in clip._tokens([prompt], clip.tokenizer, truncate=True)[0].tolist()


def test_m10_the_root_of_a_singular_product_stays_real() -> None:
    """clean-fid: scipy's sqrtm, whose root of a singular product may be imaginary or nan."""
    rng = np.random.default_rng(0)
    flat = rng.normal(size=(40, 3)) @ rng.normal(size=(3, 24))  # rank 3 of 24
    other = rng.normal(size=(40, 3)) @ rng.normal(size=(3, 24)) + 1
    first, second = (np.cov(features, rowvar=False) for features in (flat, other))
    root = sqrtm(first @ second)
    wrong = first.trace() + second.trace() - 2 * root.trace() + ((flat - other).mean(axis=0) ** 2).sum()
    assert np.iscomplexobj(root) or not np.isfinite(wrong)
    # tr (C_1 C_2)^(1/2) is the sum of the singular values of A_1 A_2^T for C_i = A_i^T A_i: real for any rank
    a, b = ((features - features.mean(axis=0)) / math.sqrt(39) for features in (flat, other))
    cross = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    expected = first.trace() + second.trace() - 2 * cross + ((flat - other).mean(axis=0) ** 2).sum()
    found = fid(torch.from_numpy(flat), torch.from_numpy(other))["value"]
    assert isinstance(found, float) and found == pytest.approx(expected, rel=1e-3)


def test_m11_noise_comes_from_the_cpu_and_results_say_what_they_were_made_on() -> None:
    """VBench: other numbers on another GPU, and nothing in the results that would tell."""
    wrong = {"score": 0.8}
    machine = describe_machine("cpu")
    assert {"device", "platform", "packages", "threads"} <= set(machine) - set(wrong)
    assert torch.__version__.startswith(machine["packages"]["torch"])
    assert {generator.device.type for generator in generators([1, 2])} == {"cpu"}
    first, again = (torch.randn(4, generator=generators([7])[0]) for _ in range(2))
    assert torch.equal(first, again)


def test_m12_results_that_cannot_be_saved_are_an_error(tmp_path: Path) -> None:
    """lm-evaluation-harness: every exception while saving becomes a warning; hours later there is no file."""

    def wrong(path: Path) -> int:
        try:
            path.write_text("{}")
        except Exception:
            return 0
        return 0

    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "metrics.json"  # below a file: cannot be written
    assert wrong(path) == 0 and not path.exists()
    with pytest.raises(UserError):
        atomic_write_json(path, {"bias": 0.1})
    atomic_write_json(tmp_path / "metrics.json", {"bias": 0.1})
    with pytest.raises(ValueError):
        atomic_write_json(tmp_path / "metrics.json", {"bias": float("nan")})
    assert "0.1" in (tmp_path / "metrics.json").read_text()  # nothing half-written
