"""How exactly a GPU computes with float32: as it is written where a number is published, else faster.

On a CPU nothing changes. Which is which: docs/performance.md, "On a GPU".
"""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def exact() -> Iterator[None]:
    """Compute float32 as float32: for the images that are measured, and for what judges and features say."""
    with _settings(matmul="highest", tf32=False, benchmark=False):
        yield


@contextmanager
def fast() -> Iterator[None]:
    """Round float32 to TF32, and try out convolutions: for training, whose shapes stay from update to update.

    Never for images that are measured: which convolution is quickest is not the same every time.
    """
    with _settings(matmul="high", tf32=True, benchmark=True):
        yield


@contextmanager
def _settings(matmul: str, tf32: bool, benchmark: bool) -> Iterator[None]:
    import torch

    if not _on_gpu():
        yield
        return
    cudnn = torch.backends.cudnn
    before = torch.get_float32_matmul_precision(), cudnn.allow_tf32, cudnn.benchmark
    try:
        _set(matmul, tf32, benchmark)
        yield
    finally:
        _set(*before)


def _on_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _set(matmul: str, tf32: bool, benchmark: bool) -> None:
    import torch

    torch.set_float32_matmul_precision(matmul)
    torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cudnn.benchmark = benchmark
