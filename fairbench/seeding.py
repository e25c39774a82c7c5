"""One seed per image, from what the image is and nothing else.

So an image stays the same for any batch size, order and number of processes, whatever the method.
"""

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def image_seed(suite: str, version: str, prompt_id: str, index: int, base_seed: int) -> int:
    """Seed of one image: the first 8 bytes of sha256 over ``suite|version|prompt_id|index|base_seed``.

    Read big-endian and masked to 63 bits, so that it fits a signed integer column.

    Examples
    --------
    >>> seed = image_seed("occupations", "1", "nurse", 0, 0)
    >>> 0 <= seed < 2**63, seed == image_seed("occupations", "1", "nurse", 1, 0)
    (True, False)
    """
    identity = "|".join((suite, version, prompt_id, str(index), str(base_seed)))
    return int.from_bytes(hashlib.sha256(identity.encode()).digest()[:8], "big") & (2**63 - 1)


def generators(seeds: Iterable[int]) -> "list[torch.Generator]":
    """One CPU generator per seed: the same noise whatever device the model is on.

    Examples
    --------
    >>> [generator.initial_seed() for generator in generators([3, 5])]
    [3, 5]
    """
    import torch

    return [torch.Generator("cpu").manual_seed(int(seed)) for seed in seeds]
