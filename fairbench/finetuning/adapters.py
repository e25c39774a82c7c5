"""What is trained: low-rank adapters on text encoder and U-Net, or soft tokens in front of the prompt.

They go in for training and come out again, leaving the model as it was.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any

import torch
from peft import LoraConfig, TrainableTokensConfig, get_peft_model, get_peft_model_state_dict

from fairbench.models.hooks import Hooks
from fairbench.models.soft_tokens import in_front, soft_tokens

if TYPE_CHECKING:
    from fairbench.models.text_to_image import TextToImage

TARGETS = {
    "text_encoder": ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"],
    "unet": ["to_q", "to_k", "to_v", "to_out.0"],
}
"""The layers that arXiv 2311.07604 tunes."""
TOKEN = "<fairbench>"  # noqa: S105 not a password
SOFT_TOKENS = 5


@dataclass(frozen=True)
class Adapter:
    """What is being trained inside a model.

    Attributes
    ----------
    parameters
        Name to parameter, float32.
    hooks
        What generation needs besides the weights.
    wrapped
        Component to its peft model.
    """

    parameters: dict[str, torch.nn.Parameter]
    hooks: Hooks
    wrapped: dict[str, Any]

    @contextmanager
    def off(self) -> Iterator[None]:
        """Make the model the original one for as long as the context lasts (without ``hooks``, too)."""
        with ExitStack() as stack:
            for network in self.wrapped.values():
                stack.enter_context(network.disable_adapter())
            yield

    def exported(self, values: Mapping[str, torch.Tensor]) -> dict[str, dict[str, torch.Tensor]]:
        """Name ``values``, one per parameter, as diffusers reads them.

        ``tensors`` for ``load_lora_weights``, ``embeddings`` for ``load_textual_inversion``.
        """
        values = {name: value.detach().cpu().contiguous() for name, value in values.items()}
        if TOKEN in values:
            return {"embeddings": values}
        return {
            "tensors": {
                f"{_diffusers_prefix(component)}{_bare(name)}": value
                for component, network in self.wrapped.items()
                for name, value in get_peft_model_state_dict(
                    network, state_dict=_under(component, values)
                ).items()
            }
        }


def adapter(
    model: TextToImage, tune: str, rank: int | None, seed: int, prompts: Sequence[str] = ()
) -> AbstractContextManager[Adapter]:
    """Put what ``tune`` names into the model for training; everything else is frozen.

    ``text_encoder``, ``unet`` or ``text_encoder+unet``: see `lora`; ``prefix``: see `prefix`, whose tokens
    begin as the words that ``prompts`` share, or at random if there are none.
    """
    if tune == "prefix" or rank is None:
        return prefix(model, shared_words(model, prompts) if prompts else random_words(model, seed))
    return lora(model, tune.split("+"), rank, seed)


@contextmanager
def lora(model: TextToImage, components: list[str], rank: int, seed: int) -> Iterator[Adapter]:
    r"""Put a LoRA of the given rank into attention (and the text encoder's feed-forward) layers.

    .. math:: W x \to W x + U D x, \qquad D \sim N(0, 1/r^2),\ U = 0

    so that training begins at the original model. The scale is 1. On leaving, the adapter is taken out
    and the model is as before. Source: arXiv 2311.07604 tunes the same layers.
    """
    wrapped = {}
    with ExitStack() as stack:
        with torch.random.fork_rng(devices=[]):  # weights are drawn on the CPU
            torch.manual_seed(seed)
            for component in components:
                config = LoraConfig(
                    r=rank, lora_alpha=rank, target_modules=TARGETS[component], init_lora_weights="gaussian"
                )
                wrapped[component] = stack.enter_context(_wrapped(getattr(model.pipeline, component), config))
        parameters = {
            f"{component}/{name}": parameter
            for component, network in wrapped.items()
            for name, parameter in network.named_parameters()
            if parameter.requires_grad
        }
        yield Adapter(parameters, Hooks(), wrapped)


@contextmanager
def prefix(model: TextToImage, words: Sequence[int]) -> Iterator[Adapter]:
    """Train soft tokens in front of every prompt, but not of the unconditional one.

    They begin as the rows ``words`` of the vocabulary. On leaving, tokenizer and text encoder are as before.
    Source: arXiv 2311.07604 trains five.
    """
    table = model.pipeline.text_encoder.get_input_embeddings().weight
    known = len(model.pipeline.tokenizer)
    config = TrainableTokensConfig(
        token_indices=list(range(known, known + len(words))), target_modules=["token_embedding"]
    )
    rows = table[torch.tensor(words, device=table.device)]
    with soft_tokens(model, {TOKEN: rows}), _wrapped(model.pipeline.text_encoder, config) as network:
        (parameter,) = (p for p in network.parameters() if p.requires_grad)
        parameter.data = parameter.data.float()
        yield Adapter({TOKEN: parameter}, Hooks(rewrite=in_front(TOKEN)), {"text_encoder": network})


def shared_words(model: TextToImage, prompts: Sequence[str]) -> list[int]:
    """Return the five tokens that most of the prompts have, in the order in which they stand there.

    In front of a prompt they change little: they name nothing that only some of the prompts show.
    """
    tokenizer = model.pipeline.tokenizer
    frame = {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id}
    counts = Counter(token for row in model.tokens(prompts).tolist() for token in dict.fromkeys(row))
    common = [token for token, _ in counts.most_common() if token not in frame]
    return list(islice(cycle(common), SOFT_TOKENS))


def random_words(model: TextToImage, seed: int) -> list[int]:
    """Return five random tokens, what arXiv 2311.07604 begins with."""
    every = torch.randperm(len(model.pipeline.tokenizer), generator=torch.Generator().manual_seed(seed))
    return every[:SOFT_TOKENS].tolist()


@contextmanager
def _wrapped(network: torch.nn.Module, config: Any) -> Iterator[Any]:
    attributes = set(vars(network))
    wrapped = get_peft_model(network, config)
    try:
        yield wrapped
    finally:
        wrapped.unload()
        for attribute in set(vars(network)) - attributes:
            delattr(network, attribute)


def _under(component: str, values: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    start = f"{component}/"
    return {name.removeprefix(start): value for name, value in values.items() if name.startswith(start)}


def _diffusers_prefix(component: str) -> str:
    # "text_model" is a level that transformers 4 has and 5 has not; diffusers reads it for both
    return "text_encoder.text_model." if component == "text_encoder" else f"{component}."


def _bare(name: str) -> str:
    return name.removeprefix("base_model.model.").removeprefix("text_model.")


class RunningAverage:
    r"""Exponential moving average of parameters, quick at first: the weights that are exported.

    .. math:: \bar\theta \gets d\,\bar\theta + (1-d)\,\theta,
              \qquad d = \min\left(\frac{1+t}{10+t}, d_\max\right)

    It counts the beginning as the first of the weights that it averages. That of diffusers, which the code of
    arXiv 2311.07604 uses, counts from the first update on: :math:`d = t / (9+t)`, and 0 at first. Of weights
    that move steadily this one lags a tenth of an update more: .07 % of the way after 150 updates, nothing
    after 4000.
    """

    def __init__(self, parameters: Mapping[str, torch.Tensor], decay: float) -> None:
        self.decay = decay
        self.values = {name: parameter.detach().clone() for name, parameter in parameters.items()}

    @torch.no_grad()
    def update(self, parameters: Mapping[str, torch.Tensor], count: int) -> None:
        """Move towards ``parameters`` after update number ``count`` (from 1)."""
        decay = min(self.decay, (1 + count) / (10 + count))
        for name, value in self.values.items():
            value.lerp_(parameters[name].detach(), 1 - decay)
