import torch

from fairbench.store.provenance import peak_memory
from fairbench.store.results import Provenance


def test_the_peak_of_memory_never_falls_and_a_gpus_is_kept(monkeypatch):
    own = peak_memory("cpu", Provenance())
    assert list(own) == ["peak_memory_bytes"] and own["peak_memory_bytes"] > 50e6
    assert peak_memory("cpu", Provenance(peak_memory_bytes=10**15))["peak_memory_bytes"] == 10**15
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: {"cuda:1": 7}[device])
    on_gpu = peak_memory("cuda:1", Provenance(**own))
    assert on_gpu["peak_gpu_memory_bytes"] == 7
    assert (
        peak_memory("cpu", Provenance(**on_gpu | {"peak_gpu_memory_bytes": 9}))["peak_gpu_memory_bytes"] == 9
    )
