"""A Stable Diffusion pipeline with its sampling loop opened up.

From top to bottom: prompts -> conditioning -> noise -> latents step by step -> picture.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import torch
from pydantic import BaseModel, Field
from torch import Tensor

from fairbench.errors import Notice, UserError
from fairbench.models.generators import check_finite
from fairbench.models.hooks import Conditioning, Hooks, Step, attached, classifier_free_guidance
from fairbench.models.portions import Portions, counted_if_done
from fairbench.models.samplers import clipping, sampler, unclipped
from fairbench.networks import slices
from fairbench.precision import exact
from fairbench.seeding import generators

NO_HOOKS = Hooks()


class Defaults(BaseModel, frozen=True):
    """How a model is sampled and finetuned unless told otherwise: the settings of arXiv 2311.07604.

    ``step_weights`` is a mode of `fairbench.finetuning.gains.step_weights`; which one serves best depends on
    the steps at which the model decides what is balanced. ``rank`` and ``learning_rate`` depend on its size.
    """

    steps: int = Field(default=30, ge=1)
    guidance: float = Field(default=7.5, ge=0)
    step_weights: Literal["standardised", "raw", "official"] = "standardised"
    rank: int = Field(default=50, ge=1)
    learning_rate: float = Field(default=5e-5, gt=0)


@dataclass(frozen=True)
class Trajectory:
    r"""What a rollout went through; S entries, N images.

    Attributes
    ----------
    final
        :math:`z_0`, N x C x h x w, ready for `TextToImage.decode`.
    timesteps
        Timestep of every step, shape (S,).
    scales
        What the latents are multiplied by before they enter the U-Net, shape (S,), float32.
    prediction
        The guided noise prediction of the last step.
    latents
        The :math:`z_i` that entered step i, before that scaling; None unless they were kept.
    graphs
        Step -> its noise prediction with a graph, and the leaf embeddings that the graph begins with.
    """

    final: Tensor
    timesteps: Tensor
    scales: Tensor
    prediction: Tensor
    latents: tuple[Tensor, ...] | None = None
    graphs: dict[int, tuple[Tensor, Conditioning]] = field(default_factory=dict)


class TextToImage:
    """A diffusers ``StableDiffusionPipeline`` whose stages can be called, differentiated and hooked into.

    All weights are frozen, and the pipeline's own scheduler is only ever read. It never clips: latents are
    not confined to the range of pixels. Embeddings, latents and noise predictions are float32, whatever the
    precision of the weights, and so are all sums of their gradients. ``unet_rows`` counts all rows that went
    through the U-Net.
    """

    def __init__(self, pipeline: Any, name: str, defaults: Defaults | None = None) -> None:
        self.pipeline = pipeline
        self.name = name
        self.defaults = defaults or Defaults()
        self.unet_rows = 0
        if found := clipping(pipeline.scheduler):
            warnings.warn(
                f"the scheduler of {name} asks for {' and '.join(found)}, which is for pixels: "
                "no latent is clipped",
                Notice,
                stacklevel=2,
            )
            pipeline.scheduler = unclipped(pipeline.scheduler)
        for network in (pipeline.text_encoder, pipeline.unet, pipeline.vae):
            network.requires_grad_(False).eval()
        # a third faster for float32 convolutions on a CPU, and what tensor cores want
        pipeline.unet.to(memory_format=torch.channels_last)
        pipeline.vae.to(memory_format=torch.channels_last)

    @property
    def device(self) -> torch.device:
        """Where the U-Net is."""
        return _first(self.pipeline.unet).device

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the U-Net's weights."""
        return _first(self.pipeline.unet).dtype

    @cached_property
    def portions(self) -> Portions:
        """How many images are made at once where nobody says; found out when first asked for."""
        return Portions.of(self)

    @property
    def images_at_once(self) -> int:
        """How many images `generate` samples in one pass unless told otherwise."""
        return min(self.portions.sampled.usual, self.portions.sampled.limit)

    @property
    def most_steps(self) -> int | None:
        """The number of timesteps that it was trained with, which no sampler can exceed."""
        most: int | None = self.pipeline.scheduler.config.get("num_train_timesteps")
        return most

    def check(self, prompts: Sequence[str], steps: int | None = None) -> None:
        """Raise a ``UserError`` where a prompt is too long, or the sampler cannot take so many steps."""
        self.tokens(prompts)
        sampler(self.pipeline.scheduler, self.defaults.steps if steps is None else steps)

    def encode(self, prompts: Sequence[str]) -> Conditioning:
        """Return the embeddings of N prompts, padded to the length that the tokenizer takes.

        Each distinct prompt is encoded once. Differentiable with respect to the text encoder. Raises like
        `tokens`.

        Notes
        -----
        Padding is seen, as in diffusers' own pipelines. The code of arXiv 2311.07604 does not pad a prompt,
        makes the empty one as long, and masks its padding in the text encoder (not in its experiment 2). The
        guided noise predictions then have a cosine of .71 to .88 with these on a random network, of .96 to
        .98 on portraits, where what guidance adds has .54 to .77.
        """
        distinct = list(dict.fromkeys([*prompts, ""]))
        embeddings = self.pipeline.text_encoder(self.tokens(distinct).to(self.device))[0].float()
        index = torch.tensor([distinct.index(prompt) for prompt in prompts], device=self.device)
        empty = embeddings[distinct.index("")]
        return Conditioning(embeddings[index], empty.expand(len(prompts), *empty.shape))

    def tokens(self, prompts: Sequence[str]) -> Tensor:
        """Return the token numbers of N prompts, N x L, padded to the length that the tokenizer takes.

        Raises
        ------
        UserError
            If a prompt has more tokens than that: its end would be lost in silence.
        """
        tokenizer = self.pipeline.tokenizer
        length = tokenizer.model_max_length
        texts = [self.pipeline.maybe_convert_prompt(prompt, tokenizer) for prompt in prompts]
        rows = tokenizer(texts, padding="max_length", max_length=length, verbose=False).input_ids
        for prompt, row in zip(texts, rows, strict=True):
            if len(row) > length:
                raise UserError(
                    f"the prompt {prompt!r} has {len(row)} tokens and {self.name} takes {length}: shorten it"
                )
        return torch.tensor(rows)

    def condition(
        self, prompts: Sequence[str], seeds: Sequence[int], hooks: Hooks = NO_HOOKS
    ) -> Conditioning:
        """Return the conditioning of N images: rewrite the prompts, encode them, change the embeddings."""
        branches = hooks.branches(prompts, seeds) if hooks.branches else ()
        if hooks.rewrite:
            prompts = hooks.rewrite(prompts, seeds)
        conditioning = self.encode(prompts)
        further = tuple(self.encode(texts).conditional for texts in branches)
        conditioning = replace(conditioning, branches=further)
        return hooks.embed(conditioning, prompts, seeds) if hooks.embed else conditioning

    def noise(self, seeds: Sequence[int]) -> Tensor:
        """Return the unit starting noise of every seed, N x C x h x w, the first draw of its generator."""
        return self._draw(generators(seeds))

    def rollout(
        self,
        conditioning: Conditioning,
        seeds: Sequence[int],
        *,
        steps: int,
        guidance: float,
        hooks: Hooks = NO_HOOKS,
        keep: bool = False,
        learn: Collection[int] = (),
        until: int | None = None,
        at_once: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Trajectory:
        """Sample the latents of N images.

        Gradients flow through the whole chain unless the caller turns them off.

        Parameters
        ----------
        conditioning : Conditioning, N rows
        seeds : N integers
            Each decides the starting noise and all sampler noise of its image.
        steps, guidance
            Denoising steps, and the scale of classifier-free guidance; 1 turns guidance off.
        hooks
            ``modules`` and ``combine`` are used here.
        keep
            Keep the latents that enter every step.
        learn
            Steps whose noise prediction keeps its graph, where gradients are off otherwise. It begins with
            the embeddings: the latents are detached.
        until
            Stop after this many steps; ``final`` is then what the sampler had reached.
        at_once
            As in `predict_noise`.
        progress
            Called as ``progress(done, total)`` after every step.
        """
        scheduler = sampler(self.pipeline.scheduler, steps)
        sources = generators(seeds)
        latents = self._draw(sources) * scheduler.init_noise_sigma
        extra = {"generator": sources} if "generator" in inspect.signature(scheduler.step).parameters else {}
        timesteps, kept, scales, graphs = scheduler.timesteps[:until], [], [], {}
        for index, timestep in enumerate(timesteps):
            # the scaling is linear, so one number tells it, and a later visitor of this step can repeat it
            scale = float(scheduler.scale_model_input(torch.ones(()), timestep))
            step = Step(index, len(scheduler.timesteps), timestep, scale, tuple(seeds))
            if keep:
                kept.append(latents)
            scales.append(scale)
            now = conditioning.at(step.index, step.total)
            learns = index in learn
            now = now.leaf() if learns else now
            with torch.set_grad_enabled(learns or torch.is_grad_enabled()):
                noise = self.predict_noise(
                    latents, timestep, now, guidance, hooks, scale=scale, step=step, at_once=at_once
                )
            if learns:
                graphs[index] = noise, now
                noise = noise.detach()
            latents = scheduler.step(noise, timestep, latents, **extra, return_dict=False)[0]
            if progress:
                progress(index + 1, len(timesteps))
        latents_kept = tuple(kept) if keep else None
        return Trajectory(latents, timesteps, torch.tensor(scales), noise, latents_kept, graphs)

    def predict_noise(
        self,
        latents: Tensor,
        timestep: Tensor,
        conditioning: Conditioning,
        guidance: float,
        hooks: Hooks = NO_HOOKS,
        *,
        scale: float | Tensor = 1.0,
        step: Step | None = None,
        at_once: int | None = None,
    ) -> Tensor:
        """Return the guided noise prediction, N x C x h x w, from one U-Net pass over (2 + branches) N rows.

        Parameters
        ----------
        latents : Tensor, N x C x h x w
            As kept in a `Trajectory`, not yet scaled.
        timestep : Tensor, shape () or (N,)
            Rows may stand at different steps.
        conditioning : Conditioning, N rows
        guidance
            Scale of classifier-free guidance.
        hooks
            ``modules`` and ``combine`` are used here.
        scale : float or Tensor of shape (N,)
            What this step's latents are multiplied by before they enter the U-Net, see `Trajectory`.
        step
            Handed on to the hooks.
        at_once
            Images that pass the U-Net together where all stand at one step, nothing is to be learnt and there
            are no hooks; all if None.
        """
        if at_once and len(latents) > at_once and not torch.is_grad_enabled():
            parts = [
                self.predict_noise(latents[rows], timestep, conditioning.of(rows), guidance, scale=scale)
                for rows in slices(len(latents), at_once)
            ]
            return torch.cat(parts)
        embeddings = (conditioning.unconditional, conditioning.conditional, *conditioning.branches)
        if guidance == 1 and not (hooks.modules or hooks.combine):
            embeddings = (conditioning.conditional,)
        if isinstance(scale, Tensor) and scale.ndim:
            scale = scale.to(latents).reshape(-1, 1, 1, 1)
        if not timestep.ndim:  # written where it is needed: a copy from the CPU would wait for the card
            timestep = torch.full_like(timestep, timestep.item(), device=latents.device)
        timestep = timestep.to(latents.device).expand(len(latents))
        self.unet_rows += len(embeddings) * len(latents)
        with attached(self.pipeline.unet, hooks, step):
            noise = self.pipeline.unet(
                (latents * scale).to(self.dtype).repeat(len(embeddings), 1, 1, 1),
                timestep.repeat(len(embeddings)),
                torch.cat(embeddings).to(self.dtype),
                return_dict=False,
            )[0].float()
        if len(embeddings) == 1:
            return noise
        unconditional, conditional, *branches = noise.chunk(len(embeddings))
        return (hooks.combine or classifier_free_guidance)(
            unconditional, conditional, guidance, step, latents, *branches
        )

    def decode(self, latents: Tensor) -> Tensor:
        """Return the pictures of final latents, N x 3 x H x W, nominally in [0, 1].

        Differentiable and not clamped, so that no gradient is lost where the decoder overshoots.
        """
        vae = self.pipeline.vae
        scaled = (latents / vae.config.scaling_factor).to(_first(vae).dtype)
        decoded = vae.decode(scaled, return_dict=False)[0]
        return decoded.float() / 2 + 0.5

    def generate(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        *,
        steps: int | None = None,
        guidance: float | None = None,
        batch_size: int | None = None,
        hooks: Hooks = NO_HOOKS,
        on_batch: Callable[[int, int], None] | None = None,
    ) -> Tensor:
        """Return one picture per prompt and seed, N x 3 x H x W in [0, 1], float32 on the CPU.

        A picture depends on its prompt and its seed alone, not on ``batch_size`` or its place in the list.
        Where memory runs out, fewer are made at once from then on, with a line of warning.

        Parameters
        ----------
        prompts, seeds
            N of each.
        steps, guidance
            The model's own ``defaults`` if None.
        batch_size
            Pictures made at once; as many as the memory holds if None.
        hooks
            What a method changes.
        on_batch
            Called as ``on_batch(done, total)`` after every batch.

        Raises
        ------
        UserError
            If the memory does not hold even one picture, or a picture is not finite.
        """
        if not len(prompts) == len(seeds) > 0:
            raise ValueError(f"as many prompts as seeds are needed, not {len(prompts)} and {len(seeds)}")
        steps = self.defaults.steps if steps is None else steps
        guidance = self.defaults.guidance if guidance is None else guidance
        portions, pictures = self.portions, []

        def sample(rows: slice) -> Tensor:
            with counted_if_done(self):
                conditioning = self.condition(prompts[rows], seeds[rows], hooks)
                sampled = self.rollout(conditioning, seeds[rows], steps=steps, guidance=guidance, hooks=hooks)
            return sampled.final

        with torch.inference_mode(), exact():
            for rows, latents in portions.sampled.portions(sample, len(seeds), self.device, batch_size):
                pictures.append(portions.decode(self, latents))
                if on_batch:
                    on_batch(rows.stop, len(seeds))
        made = torch.cat(pictures)  # outside inference mode: an ordinary tensor, fit for training on
        check_finite(made, prompts, seeds)
        return made

    def _draw(self, sources: list[torch.Generator]) -> Tensor:
        config = self.pipeline.unet.config
        size = config.sample_size
        shape = (config.in_channels, *((size, size) if isinstance(size, int) else size))
        return torch.stack([torch.randn(shape, generator=source) for source in sources]).to(self.device)


def _first(network: torch.nn.Module) -> torch.nn.Parameter:
    """Return a parameter; diffusers looks through all modules to tell where a network is, and as what."""
    return next(network.parameters())
