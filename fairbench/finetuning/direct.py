"""Direct finetuning: sample, judge, and send the gradient back through the sampler by a rule.

A method is a name, its settings and its rule; everything else that finetuning does is here, once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch

from fairbench.errors import UserError
from fairbench.finetuning.adapters import Adapter, adapter
from fairbench.finetuning.batches import Batches
from fairbench.finetuning.engine import Pace, Training
from fairbench.finetuning.gradient import rule_gradient
from fairbench.finetuning.memory import portions
from fairbench.finetuning.objective import Objective
from fairbench.finetuning.processes import Processes
from fairbench.finetuning.rules import GradientRule, Sampler, views
from fairbench.finetuning.semantics import OriginalPictures
from fairbench.finetuning.settings import COST_ONLY, RANK, Settings, per_attribute
from fairbench.intervention import DrawClass, FitContext, Intervention
from fairbench.models.content import content_sha256
from fairbench.models.hooks import Hooks
from fairbench.models.soft_tokens import in_front, soft_tokens
from fairbench.models.text_to_image import TextToImage
from fairbench.models.weights import lora_weights


class DirectFinetuning:
    """What all methods of direct finetuning share; they add ``name``, ``Config`` and ``rule``."""

    name: ClassVar[str]
    draw_class: ClassVar[DrawClass] = "emergent"
    supports: ClassVar[tuple[str, ...] | None] = None
    quick: ClassVar[dict[str, Any]] = {
        "prompts_per_update": 1,
        "images_per_prompt": 4,
        "noises_per_prompt": 4,
    }
    Config: ClassVar[type[Settings]]

    def __init__(self, config: Any) -> None:
        self.config = config

    def rule(self, sampler: Sampler, generator: torch.Generator) -> GradientRule:
        """Return the rule of one update; what is random in it comes from ``generator``."""
        raise NotImplementedError

    def on(self, model: TextToImage) -> Self:
        """Return the method with every setting that was left open filled in for ``model``."""
        defaults = {
            "steps": max(1, round(model.defaults.steps * 2 / 3)),
            "guidance": model.defaults.guidance,
            "rank": None if self.config.tune == "prefix" else RANK,
            "mode": model.defaults.step_weights,
        }
        given = self.config.model_dump()
        missing = {key: value for key, value in defaults.items() if key in given and given[key] is None}
        return type(self)(self.config.model_copy(update=missing))

    def check(self, model: TextToImage) -> None:
        """Raise a ``UserError`` where these settings do not fit ``model``."""
        method = self.on(model)
        sampler = Sampler.of(model.pipeline.scheduler, method.config.steps)
        method.rule(sampler, torch.Generator().manual_seed(0))

    def fit(self, context: FitContext) -> Intervention:
        """Train; an interrupted training of the same settings goes on."""
        method, processes = self.on(context.model), Processes()
        config = method.config
        _check_context(config, context, processes)
        settings = config.model_dump(mode="json", exclude=COST_ONLY) | context.description()
        if config.lr_schedule != "constant":
            settings["updates"] = context.updates
        content = content_sha256(context.model)  # before anything is put into it
        with adapter(context.model, config.tune, config.rank, context.seed) as tuned:
            update = _update(method, context, tuned, processes, content)
            pace = Pace(
                config.learning_rate,
                config.ema_decay,
                config.clip,
                config.optimizer,
                config.lr_schedule,
                config.warmup,
            )
            training = Training(tuned.parameters, context.directory, settings, pace, processes)
            averaged = training.run(context.updates, update, context.log)
            weights = tuned.exported(averaged)
        return Intervention(
            self.name, self.draw_class, settings=settings | {"updates": training.progress.update}, **weights
        )

    @contextmanager
    def apply(self, intervention: Intervention, model: TextToImage, draw: object = None) -> Iterator[Hooks]:
        """Put what was trained into ``model`` while the context lasts; ``draw`` has no say."""
        with ExitStack() as stack:
            stack.enter_context(lora_weights(model, intervention.tensors))
            stack.enter_context(soft_tokens(model, intervention.embeddings))
            rewrite = in_front("".join(intervention.embeddings)) if intervention.embeddings else None
            yield Hooks(rewrite=rewrite)


@dataclass(frozen=True)
class _Update:
    """One update, up to its gradient: sample, judge, send back."""

    method: DirectFinetuning
    model: TextToImage
    sampler: Sampler
    batches: Batches
    objective: Objective
    originals: OriginalPictures
    hooks: Hooks
    processes: Processes
    rows: int

    def __call__(self, number: int) -> dict[str, Any]:
        """Accumulate the gradient of update ``number`` and return what is to be logged."""
        model, config = self.model, self.method.config
        whole = self.batches[number]
        rule = self.method.rule(self.sampler, whole.generator)
        batch = whole.share(self.processes.index, self.processes.count)
        watch = _Watch()
        with torch.no_grad():
            conditioning = model.condition(batch.texts, batch.seeds, self.hooks)
            trajectory = model.rollout(
                conditioning,
                batch.seeds,
                steps=config.steps,
                guidance=config.guidance,
                keep=True,
                until=None if rule.stop is None else rule.stop + 1,
            )
        watch("seconds_sampling")
        self.originals.look_up(batch.pictures, model.device)  # here, to see what the new ones cost
        watch("seconds_originals")
        row: dict[str, Any] = {}
        for seen, latents in views(
            rule, self.sampler, model, trajectory, conditioning, batch.seeds, config.guidance
        ):
            cotangent, row = self.objective(latents, batch)
            watch("seconds_loss")
            norms = rule_gradient(
                rule,
                model,
                seen,
                model.condition(batch.texts, batch.seeds, self.hooks),
                cotangent / max(1, rule.noisings),
                self.sampler.gains,
                guidance=config.guidance,
                chunk=self.rows,
            )
            watch("seconds_gradient")
        share = len(batch.seeds) / whole.total
        seconds = {name: value / self.processes.count for name, value in watch.seconds.items()}
        return {name: value * share for name, value in row.items()} | {"step_norms": norms.tolist()} | seconds


class _Watch:
    """Seconds since it was last looked at, summed up by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def __call__(self, name: str) -> None:
        now = time.perf_counter()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self._last
        self._last = now


def _update(
    method: DirectFinetuning, context: FitContext, tuned: Adapter, processes: Processes, content: str
) -> _Update:
    """Put together what an update needs; ``content`` is the hash of the original model."""
    model, config = context.model, method.config
    sampling = {"steps": config.steps, "guidance": config.guidance}

    def original(texts: list[str], seeds: list[int]) -> torch.Tensor:
        with tuned.off():
            return model.generate(texts, seeds, batch_size=len(seeds), **sampling)

    faces = context.faces if _looks_at_faces(config, context) else None
    made_with = {"model": content, "device": model.device.type} | sampling
    originals = OriginalPictures(original, context, made_with, faces)
    rows, pictures = portions(
        model,
        config.prompts_per_update * config.images_per_prompt,
        _loss_of(context),
        config.rows,
        config.pictures_at_once,
    )
    return _Update(
        method=method,
        model=model,
        sampler=Sampler.of(model.pipeline.scheduler, config.steps),
        batches=Batches(
            context, config.prompts_per_update, config.images_per_prompt, config.noises_per_prompt
        ),
        objective=Objective(context, originals, config, model.decode, pictures),
        originals=originals,
        hooks=tuned.hooks,
        processes=processes,
        rows=rows,
    )


def _loss_of(context: FitContext) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return something that needs as much memory as the loss does."""

    def learn(latents: torch.Tensor) -> torch.Tensor:
        images = context.model.decode(latents)
        outputs = [*context.judge.logits(images).values(), *(net(images) for net in context.features)]
        return torch.stack([output.sum() for output in outputs]).sum()

    return learn


def _looks_at_faces(config: Settings, context: FitContext) -> bool:
    factors = per_attribute("region_factor", config.region_factor, context.space.names)
    return config.face_weight > 0 or min(factors.values()) < 1


def _check_context(config: Settings, context: FitContext, processes: Processes) -> None:
    """Raise a ``UserError`` where the settings ask for what this run has not got."""
    per_attribute("change_factor", config.change_factor, context.space.names)
    if _looks_at_faces(config, context) and context.faces is None:
        raise UserError(
            f"face_weight and region_factor need a face network, and {context.model.name} brings none: "
            "leave them at 0 and 1"
        )
    prompts = min(config.prompts_per_update, len(context.prompts))
    if processes.count > prompts:
        raise UserError(
            f"{processes.count} processes share {prompts} prompts per update: start at most as many, "
            "or raise prompts_per_update"
        )
