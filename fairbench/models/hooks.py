"""The points at which a method may step into generation, so that no method needs a loop of its own.

Four of them are here; the fifth, the weights, is `fairbench.models.weights`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from torch import Tensor, nn

from fairbench.errors import unknown


@dataclass(frozen=True)
class Conditioning:
    """Embeddings of N prompts and, N times, of the empty prompt, both N x L x D, and of further branches."""

    conditional: Tensor
    unconditional: Tensor
    branches: tuple[Tensor, ...] = ()
    """N x L x D each: what `Hooks.branches` asked for."""
    later: tuple[float, Tensor] | None = None
    """A share of the steps, and what takes the place of ``conditional`` when they are done."""

    def of(self, rows: slice) -> Conditioning:
        """Return that of some of the images, without branches."""
        return Conditioning(self.conditional[rows], self.unconditional[rows])

    def leaf(self) -> Conditioning:
        """Return the embeddings, without branches, cut from their graph and ready to gather gradients."""
        return Conditioning(
            self.conditional.detach().clone().requires_grad_(),
            self.unconditional.detach().clone().requires_grad_(),
        )

    def at(self, index: int, total: int) -> Conditioning:
        """Return what holds in step ``index`` of ``total``."""
        if self.later is None or index < round(self.later[0] * total):
            return self
        return replace(self, conditional=self.later[1])


@dataclass(frozen=True)
class Step:
    """Where the sampler stands: which step of how many, its timestep and input scale; the seeds of N rows."""

    index: int
    total: int
    timestep: Tensor
    scale: float
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Hooks:
    """What a method changes while images are made; nothing by default.

    Attributes
    ----------
    rewrite
        ``rewrite(prompts, seeds) -> prompts``: the prompt texts of N images.
    embed
        ``embed(conditioning, prompts, seeds) -> conditioning``: the embeddings of the (rewritten) prompts.
    branches
        ``branches(prompts, seeds) -> B lists of N prompts``: prompts beside the image's own, whose noise is
        predicted in the same pass, for ``combine``. Each costs one more U-Net row per image.
    modules
        U-Net module name, such as ``"mid_block"`` -> ``hook(output, step) -> output``. The output has
        (2 + B)N rows: unconditional, conditional, then branch after branch.
    combine
        ``combine(unconditional, conditional, guidance, step, latents, *branches) -> noise``: how the noise
        predictions become one; classifier-free guidance if not given.
    """

    rewrite: Callable[[Sequence[str], Sequence[int]], Sequence[str]] | None = None
    embed: Callable[[Conditioning, Sequence[str], Sequence[int]], Conditioning] | None = None
    branches: Callable[[Sequence[str], Sequence[int]], Sequence[Sequence[str]]] | None = None
    modules: Mapping[str, Callable[[Tensor, Step | None], Tensor]] = field(default_factory=dict)
    combine: Callable[..., Tensor] | None = None


def classifier_free_guidance(
    unconditional: Tensor, conditional: Tensor, guidance: float, *_: object
) -> Tensor:
    r"""Return :math:`\epsilon_\emptyset + s\,(\epsilon_c - \epsilon_\emptyset)`, the ordinary combiner."""
    return unconditional + guidance * (conditional - unconditional)


@contextmanager
def attached(unet: nn.Module, hooks: Hooks, step: Step | None) -> Iterator[None]:
    """Hang the module hooks on the U-Net, and take them off again."""
    if not hooks.modules:
        yield
        return
    known = dict(unet.named_modules())
    with ExitStack() as stack:
        stack.enter_context(_uncompiled(unet))
        for name, hook in hooks.modules.items():
            if name not in known:
                raise unknown("U-Net module", name, known)
            stack.enter_context(known[name].register_forward_hook(partial(_forward_hook, hook, step)))
        yield


@contextmanager
def _uncompiled(unet: nn.Module) -> Iterator[None]:
    """Call ``unet`` as it is written: a graph compiled without hooks passes over them in silence."""
    compiled = unet._compiled_call_impl
    unet._compiled_call_impl = None
    try:
        yield
    finally:
        unet._compiled_call_impl = compiled


def _forward_hook(
    hook: Callable[..., Tensor], step: Step | None, module: nn.Module, args: Any, output: Tensor
) -> Tensor:
    return hook(output, step)
