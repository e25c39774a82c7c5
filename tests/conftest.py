"""Settings for every test: no network, few threads, no deadline on a busy machine."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # before anything imports huggingface_hub
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ["FAIRBENCH_CACHE"] = "off"  # no test is to see what another one has left
if "PYTEST_XDIST_WORKER" in os.environ:  # the workers share the cores, they must not each take all of them
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from hypothesis import settings

settings.register_profile("fairbench", deadline=None, max_examples=50)
settings.load_profile("fairbench")
