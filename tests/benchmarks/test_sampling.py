"""How long one batch takes to sample and to decode; run with ``--benchmark-enable``."""

from typing import Any

import torch

from fairbench.models.text_to_image import TextToImage
from tests.tiny import tiny_pipeline

SEEDS = list(range(16))


def test_generate(benchmark: Any) -> None:
    model = TextToImage(tiny_pipeline("dpm"), "tiny")
    benchmark(model.generate, ["a face"] * 16, SEEDS, steps=12, guidance=3.0)


def test_predict_noise_with_gradient(benchmark: Any) -> None:
    model = TextToImage(tiny_pipeline("dpm"), "tiny")
    conditioning, latents = model.encode(["a face"] * 16), model.noise(SEEDS)
    embeddings = conditioning.conditional.clone().requires_grad_()

    def forward_and_back() -> None:
        pair = type(conditioning)(embeddings, conditioning.unconditional)
        model.predict_noise(latents, torch.tensor(500), pair, 3.0).sum().backward()

    benchmark(forward_and_back)
