"""What a GPU rounds, and where; the switches are torch's own and can be read without one."""

import subprocess
import sys

import pandas as pd
import pytest
import torch

from fairbench import precision
from fairbench.features import load_features
from fairbench.judges import load_judge
from fairbench.methods.biased_dft import BiasedDFT
from fairbench.precision import exact, fast
from fairbench.scoring.judging import look
from tests.finetuning.stand_ins import make_context, tiny_model

AS_TORCH_HAS_IT = ("highest", True, False)
EXACT, FAST = ("highest", False, False), ("high", True, True)


def switches():
    cudnn = torch.backends.cudnn
    return torch.get_float32_matmul_precision(), cudnn.allow_tf32, cudnn.benchmark


@pytest.fixture
def card(monkeypatch):
    """A machine with a GPU, as far as the switches are concerned."""
    monkeypatch.setattr(precision, "_on_gpu", lambda: True)


def test_the_switches_are_put_back_also_after_an_error_and_from_within(card):
    assert switches() == AS_TORCH_HAS_IT
    with fast():
        assert switches() == FAST
        with pytest.raises(ZeroDivisionError), exact():
            assert switches() == EXACT
            1 / 0  # noqa: B018
        assert switches() == FAST
    assert switches() == AS_TORCH_HAS_IT


NEW = """
import torch
from fairbench import precision

precision._on_gpu = lambda: True
backends = torch.backends
owners = backends, backends.cuda.matmul, backends.cudnn.conv
setattr(owners[CHOSEN], "fp32_precision", VALUE)
given = [owner.fp32_precision for owner in owners]
with precision.fast():
    assert [owner.fp32_precision for owner in owners[1:]] == ["tf32"] * 2
    with precision.exact():
        assert [owner.fp32_precision for owner in owners[1:]] == ["ieee"] * 2
    assert [owner.fp32_precision for owner in owners[1:]] == ["tf32"] * 2
assert [owner.fp32_precision for owner in owners] == given
"""


@pytest.mark.skipif(not hasattr(torch.backends, "fp32_precision"), reason="torch 2.9 has new switches")
@pytest.mark.parametrize(("chosen", "value"), [(0, "tf32"), (1, "tf32"), (2, "ieee")])
def test_whoever_has_set_the_new_switches_gets_them_back(chosen, value):
    """torch then refuses to read the old ones; in a process of its own, as it does so for good."""
    code = NEW.replace("CHOSEN", str(chosen)).replace("VALUE", repr(value))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_without_a_gpu_nothing_is_touched():
    with fast():
        assert switches() == AS_TORCH_HAS_IT


def noting(seen, call):
    """Note the switches under which ``call`` is called."""

    def noted(*args, **kwargs):
        seen.add(switches())
        return call(*args, **kwargs)

    return noted


def test_images_are_made_exactly_and_training_may_round(card, tmp_path, monkeypatch):
    monkeypatch.setenv("FAIRBENCH_CACHE", "off")
    model, decoded, sampled = tiny_model(), set(), set()
    settings = {"prompts_per_update": 1, "images_per_prompt": 4, "noises_per_prompt": 4, "steps": 4}
    monkeypatch.setattr(model, "decode", noting(decoded, model.decode))
    monkeypatch.setattr(model, "predict_noise", noting(sampled, model.predict_noise))
    model.generate(["a face"], [0])
    assert decoded == sampled == {EXACT}
    BiasedDFT(BiasedDFT.Config(**settings)).fit(make_context(tmp_path, model, updates=1))
    assert decoded == sampled == {EXACT, FAST}  # the first for the original pictures
    assert switches() == AS_TORCH_HAS_IT


def test_what_is_published_is_judged_exactly(card, monkeypatch):
    seen = set()
    judge, network = load_judge("portraits-eval-a"), load_features("ssl-eval")
    for each in (judge, network):
        each.network.register_forward_pre_hook(lambda *_: seen.add(switches()))
    rows = pd.DataFrame({"concept": ["nurse", "pilot"]})
    look([(rows, torch.rand(2, 3, 64, 64))], [judge], [network])
    assert seen == {EXACT}
