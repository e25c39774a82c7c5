"""One update of 24 images at 20 steps against the authors' procedure; measure with ``--benchmark-enable``.

The packaged model is used where there is one, else the tiny one, whose times say little.
"""

import importlib.util
import shutil
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest

from fairbench.features import load_features
from fairbench.finetuning import memory
from fairbench.finetuning.engine import STATE
from fairbench.judges import list_judges, load_judge
from fairbench.methods.biased_dft import BiasedDFT
from fairbench.models.loading import load_model
from fairbench.suites import load_suite
from tests.finetuning.stand_ins import make_context, tiny_model

STEPS, PROMPTS, IMAGES = 20, 3, 8
PACKAGED = {
    "prompts": lambda: list(load_suite("occupations").prompts("train")),
    "judge": lambda: load_judge("portraits-train"),
    "features": lambda: [load_features("clip-train"), load_features("ssl-train")],
}


@pytest.fixture(autouse=True)
def kept(tmp_path, monkeypatch):
    """Where original pictures seen before are known from."""
    monkeypatch.setenv("FAIRBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def context(tmp_path):
    """Whatever model is there, ready for one update."""
    if "portraits-train" not in list_judges():
        return make_context(tmp_path, tiny_model("dpm"), updates=1)
    parts = {name: make() for name, make in PACKAGED.items()}
    return make_context(tmp_path, load_model("portraits"), updates=1, **parts)


def our_update(context, steps, timesteps):
    """Fit from the beginning for one update; original pictures seen before are still known."""
    (context.directory / STATE).unlink(missing_ok=True)
    settings = {"prompts_per_update": PROMPTS, "images_per_prompt": IMAGES, "steps": steps}
    BiasedDFT(BiasedDFT.Config(**settings, timesteps_per_update=timesteps)).fit(context)


def authors_update(context, steps=STEPS):
    """One update by the procedure of the released code of arXiv 2311.07604."""
    settings = {"prompts_per_update": PROMPTS, "images_per_prompt": IMAGES, "steps": steps}
    method = BiasedDFT(BiasedDFT.Config(**settings)).on(context.model)
    with authors().authors_update(context, method.config) as update:
        update()


@cache
def authors():
    """Load results/gpu/authors.py, which measures the same on a GPU."""
    path = Path(__file__).parents[2] / "results" / "gpu" / "authors.py"
    spec = importlib.util.spec_from_file_location("authors", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextmanager
def counted(unet):
    """Count the rows that pass through the U-Net, and those that come back."""
    rows = {"forward": 0, "backward": 0}

    def enters(module, inputs):
        rows["forward"] += len(
            inputs[0]
        )  # counted here: a checkpoint's second pass breaks off before the end

    def leaves(module, inputs, output):
        if output[0].requires_grad:
            output[0].register_hook(comes_back)

    def comes_back(gradient):
        rows["backward"] += len(gradient)

    handles = unet.register_forward_pre_hook(enters), unet.register_forward_hook(leaves)
    try:
        yield rows
    finally:
        for handle in handles:
            handle.remove()


def test_rows_per_update(tmp_path, monkeypatch):
    """The counts of docs/performance.md: one evaluation is two rows, with the prompt and without."""
    context = make_context(tmp_path, tiny_model(), updates=1)
    unet, count, steps, few = context.model.pipeline.unet, 2 * PROMPTS * IMAGES, 6, 2
    with counted(unet) as rows:
        our_update(context, steps, None)
    assert rows == {"forward": 2 * count * steps, "backward": count * steps}
    with counted(unet) as rows:  # the original pictures are known by now
        our_update(context, steps, few)
    assert rows == {"forward": count * steps, "backward": count * few}
    monkeypatch.setattr(memory, "GRAPH_PIXELS", 0)  # no graph is kept: what learns is predicted again
    with counted(unet) as rows:
        our_update(context, steps, few)
    assert rows == {"forward": count * (steps + few), "backward": count * few}
    with counted(unet) as rows:
        authors_update(context, steps)
    assert rows == {"forward": 4 * count * steps, "backward": count * steps}


def test_authors_update(benchmark, context):
    benchmark.pedantic(authors_update, (context,), rounds=3)


@pytest.mark.parametrize("timesteps", [STEPS, 5])
def test_our_update(benchmark, context, timesteps):
    our_update(context, STEPS, timesteps)  # sees the original pictures, as in every later epoch
    benchmark.pedantic(our_update, (context, STEPS, timesteps), rounds=3)


@pytest.mark.parametrize("timesteps", [STEPS, 5])
def test_our_first_update(benchmark, context, kept, timesteps):
    """Original pictures included."""

    def forget():
        shutil.rmtree(kept, ignore_errors=True)

    benchmark.pedantic(our_update, (context, STEPS, timesteps), setup=forget, rounds=3)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads the peak memory from /proc")
def test_peak_memory_does_not_grow_with_the_steps(context):
    our_update(context, 10, None)
    few, many = (peak_memory(lambda steps=steps: our_update(context, steps, None)) for steps in (10, 50))
    assert many < 1.1 * few


def peak_memory(call):
    """Return the largest resident memory of this process during the call, in bytes.

    All of it, model included: the rise alone is less than what the allocator keeps or gives back.
    """
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts afresh from here
    call()
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
