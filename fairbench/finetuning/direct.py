"""Direct finetuning: sample, judge, and send the gradient back through the sampler by a rule.

A method is a name, its settings and its rule; everything else that finetuning does is in this room, once.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, ClassVar, Self

import torch

from fairbench.errors import UserError
from fairbench.finetuning.adapters import adapter
from fairbench.finetuning.engine import Pace, Training, check_precision
from fairbench.finetuning.memory import checkpoint
from fairbench.finetuning.optimisers import make_optimiser
from fairbench.finetuning.processes import Processes
from fairbench.finetuning.rules import GradientRule, Sampler
from fairbench.finetuning.settings import COST_ONLY, Settings, per_attribute
from fairbench.finetuning.update import Update
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
    several_processes: ClassVar[bool] = True
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
            "rank": None if self.config.tune == "prefix" else model.defaults.rank,
            "learning_rate": model.defaults.learning_rate,
            "mode": model.defaults.step_weights,
        }
        given = self.config.model_dump()
        missing = {key: value for key, value in defaults.items() if key in given and given[key] is None}
        return type(self)(self.config.model_copy(update=missing))

    def check(self, model: TextToImage) -> None:
        """Raise a ``UserError`` where these settings do not fit ``model``."""
        check_precision(model)
        method = self.on(model)
        sampler = Sampler.of(model.pipeline.scheduler, method.config.steps)
        method.rule(sampler, torch.Generator().manual_seed(0))

    def check_fit(self, context: FitContext) -> None:
        """Raise a ``UserError`` where these settings ask for what ``context`` has not got."""
        config, attributes, processes = self.config, context.space.names, Processes().count
        make_optimiser(config.optimizer, [torch.nn.Parameter(torch.zeros(1))], 1.0)  # one may be missing
        per_attribute("change_factor", config.change_factor, attributes)
        if config.looks_at_faces(attributes) and context.faces is None:
            raise UserError(
                f"face_weight and region_factor need real faces, and {context.model.name} brings none: "
                "name a folder of them with --real-faces, or leave them at 0 and 1"
            )
        prompts = min(config.prompts_per_update, len(context.prompts))
        if processes > prompts:
            raise UserError(
                f"{processes} processes share {prompts} prompts per update: start at most as many, "
                "or raise prompts_per_update"
            )

    def fit(self, context: FitContext) -> Intervention:
        """Train; an interrupted training of the same settings goes on."""
        method, processes = self.on(context.model), Processes()
        config = method.config
        method.check_fit(context)
        settings = config.model_dump(mode="json", exclude=COST_ONLY) | context.description()
        if config.lr_schedule != "constant":
            settings["updates"] = context.updates
        content = content_sha256(context.model)  # before anything is put into it
        begin = [prompt.text for prompt in context.prompts] if config.soft_tokens == "shared" else []
        with ExitStack() as stack:
            stack.callback(checkpoint, context.model, False)
            chosen = adapter(context.model, config.tune, config.rank, context.seed, begin)
            tuned = stack.enter_context(chosen)
            update = Update.of(context, config, method.rule, tuned, processes, content)
            pace = Pace(
                config.learning_rate,
                config.ema_decay,
                config.clip,
                config.optimizer,
                config.lr_schedule,
                config.warmup,
            )
            training = Training(
                tuned.parameters,
                context.directory,
                settings,
                pace,
                processes,
                meter=lambda: context.model.unet_rows,
            )
            averaged = training.run(context.updates, update, context.log)
            weights = tuned.exported(averaged)
        return Intervention(
            self.name, self.draw_class, settings=settings | {"updates": training.state.update}, **weights
        )

    @contextmanager
    def apply(self, intervention: Intervention, model: TextToImage, draw: object = None) -> Iterator[Hooks]:
        """Put what was trained into ``model`` while the context lasts; ``draw`` has no say."""
        with ExitStack() as stack:
            stack.enter_context(lora_weights(model, intervention.tensors))
            stack.enter_context(soft_tokens(model, intervention.embeddings))
            rewrite = in_front("".join(intervention.embeddings)) if intervention.embeddings else None
            yield Hooks(rewrite=rewrite)
