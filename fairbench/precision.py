"""How exactly a GPU computes with float32: as it is written where a number is published, else faster.

Without a GPU nothing changes. Which is which: docs/performance.md, "On a GPU".
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def exact() -> Iterator[None]:
    """Compute float32 as float32: for the images that are measured, and for what judges and features say."""
    with _settings(tf32=False, benchmark=False):
        yield


@contextmanager
def fast() -> Iterator[None]:
    """Round float32 to TF32, and try out convolutions: for training, whose shapes stay from update to update.

    Never for images that are measured: which convolution is quickest is not the same every time.
    """
    with _settings(tf32=True, benchmark=True):
        yield


@contextmanager
def _settings(tf32: bool, benchmark: bool) -> Iterator[None]:
    import torch

    if not _on_gpu():
        yield
        return
    cudnn, operations = torch.backends.cudnn, _operations()
    kept = [operation.fp32_precision for operation in operations]
    tried, old = cudnn.benchmark, None if _new_switches_in_use() else _old_switches()
    try:
        cudnn.benchmark = benchmark
        if old is None:
            _set_new(["tf32" if tf32 else "ieee"] * len(operations))
        else:
            _set_old("high" if tf32 else "highest", tf32)
        yield
    finally:
        cudnn.benchmark = tried
        if old is not None:
            _set_old(*old)
        _set_new(kept)


def _operations() -> list[Any]:
    """Return what has a switch of its own since torch 2.9."""
    import torch

    cudnn: Any = torch.backends.cudnn
    new = hasattr(torch.backends, "fp32_precision")
    return [torch.backends.cuda.matmul, cudnn.conv, cudnn.rnn] if new else []


def _new_switches_in_use() -> bool:
    """Tell whether somebody has set a new one: torch then refuses to read the old ones.

    They are left alone otherwise, because torch.compile reads the old ones.
    """
    import torch

    try:
        _old_switches()
    except RuntimeError:
        return True
    return getattr(torch.backends, "fp32_precision", "none") != "none"


def _old_switches() -> tuple[str, bool]:
    import torch

    return torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32


def _set_old(matmul: str, tf32: bool) -> None:
    import torch

    torch.set_float32_matmul_precision(matmul)
    torch.backends.cudnn.allow_tf32 = tf32


def _set_new(values: list[str]) -> None:
    for operation, value in zip(_operations(), values, strict=True):
        operation.fp32_precision = value


def _on_gpu() -> bool:
    import torch

    return torch.cuda.is_available()
