"""One update of direct finetuning, up to its gradient: sample, judge, send back by a rule.

Which images it sees, what it minimises and what it changes comes together here; around it loops `Training`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from fairbench.finetuning.adapters import Adapter
from fairbench.finetuning.batches import Batches
from fairbench.finetuning.gradient import kept_steps, rule_gradient
from fairbench.finetuning.memory import GradientPortions, checkpoint, portions
from fairbench.finetuning.objective import Objective
from fairbench.finetuning.processes import Processes
from fairbench.finetuning.rules import GradientRule, Sampler, views
from fairbench.finetuning.semantics import OriginalPictures
from fairbench.models.capacity import attempt, tell, too_large
from fairbench.models.portions import counted_if_done, uncounted
from fairbench.precision import fast

if TYPE_CHECKING:
    from fairbench.intervention import FitContext

Rule = Callable[[Sampler, torch.Generator], GradientRule]


@dataclass(frozen=True)
class Update:
    """All that an update needs; calling it accumulates its gradient."""

    context: FitContext
    settings: Any
    """`Settings` of a method, with nothing left open."""
    rule: Rule
    tuned: Adapter
    sampler: Sampler
    batches: Batches
    objective: Objective
    processes: Processes
    portions: GradientPortions

    @classmethod
    def of(
        cls,
        context: FitContext,
        settings: Any,
        rule: Rule,
        tuned: Adapter,
        processes: Processes,
        content: str,
    ) -> Update:
        """Put it together; ``content`` is the hash of the original model."""
        model = context.model
        sampling = {"steps": settings.steps, "guidance": settings.guidance}

        def original(texts: list[str], seeds: list[int]) -> torch.Tensor:
            with tuned.off(), uncounted(model):  # whichever run comes first makes them for all
                return model.generate(texts, seeds, batch_size=len(seeds), **sampling).to(model.device)

        originals = OriginalPictures(
            original,
            context,
            {"model": content, "device": model.device.type} | sampling,
            context.faces if settings.looks_at_faces(context.space.names) else None,
        )
        prompts, images = settings.prompts_per_update, settings.images_per_prompt
        found = portions(
            model,
            prompts * images,
            _loss_of(context),
            settings.rows,
            settings.pictures_at_once,
            settings.checkpointing,
        )
        return cls(
            context,
            settings,
            rule,
            tuned,
            Sampler.of(model.pipeline.scheduler, settings.steps),
            Batches(context, prompts, images, settings.noises_per_prompt),
            Objective(context, originals, settings, model.decode, found.pictures),
            processes,
            found,
        )

    def __call__(self, number: int) -> dict[str, Any]:
        """Accumulate the gradient of update ``number`` and return what is to be logged.

        Where memory runs out, the update is taken again in portions of half the size, and so on: what it
        draws follows from its number.

        Raises
        ------
        UserError
            If the memory does not hold the gradient of even one image.
        """
        with fast():
            while (row := attempt(lambda: self._accumulate(number))) is None:
                self._need_less(number)
                for parameter in self.tuned.parameters.values():
                    parameter.grad = None
        return row

    def _need_less(self, number: int) -> None:
        """Take portions of half the size, or else compute the U-Net's blocks once more on the way back."""
        model, again = self.context.model, f"memory ran out: update {number + 1} is taken again"
        if self.portions.halve():
            tell(f"{again}, in portions of half the size")
        elif self.settings.checkpointing == "auto" and not model.pipeline.unet.is_gradient_checkpointing:
            checkpoint(model, True)
            tell(f"{again}, with a checkpointed U-Net")
        else:
            raise too_large(model.device, "finetuned on")

    def _accumulate(self, number: int) -> dict[str, Any]:
        with counted_if_done(self.context.model):
            return self._counted(number)

    def _counted(self, number: int) -> dict[str, Any]:
        model, settings, hooks = self.context.model, self.settings, self.tuned.hooks
        whole = self.batches[number]
        rule = self.rule(self.sampler, whole.generator)
        batch = whole.share(self.processes.index, self.processes.count)
        laps = _Laps(model.device)
        objective = replace(self.objective, at_once=self.portions.pictures)
        objective.originals.look_up(batch.pictures, model.device)  # here, to see what new ones cost
        laps("seconds_originals")
        with torch.no_grad():
            conditioning = model.condition(batch.texts, batch.seeds, hooks)
            trajectory = model.rollout(
                conditioning,
                batch.seeds,
                steps=settings.steps,
                guidance=settings.guidance,
                keep=True,
                learn=kept_steps(rule, len(batch.seeds), self.portions.graphs),
                until=None if rule.stop is None else rule.stop + 1,
                at_once=self.portions.sampled,
            )
        laps("seconds_sampling")
        row: dict[str, Any] = {}
        for seen, latents in views(
            rule,
            self.sampler,
            model,
            trajectory,
            conditioning,
            batch.seeds,
            settings.guidance,
            self.portions.sampled,
        ):
            cotangent, row = objective(latents, batch)
            laps("seconds_loss")
            norms = rule_gradient(
                rule,
                model,
                seen,
                model.condition(batch.texts, batch.seeds, hooks),
                cotangent / max(1, rule.noisings),
                self.sampler.gains,
                guidance=settings.guidance,
                chunk=self.portions.rows,
            )
            laps("seconds_gradient")
        share = len(batch.seeds) / whole.total
        seconds = {name: value / self.processes.count for name, value in laps.seconds.items()}
        return {name: value * share for name, value in row.items()} | {"step_norms": norms.tolist()} | seconds


class _Laps:
    """Seconds since it was last looked at, summed up by name; a GPU is waited for."""

    def __init__(self, device: torch.device) -> None:
        self.seconds: dict[str, float] = {}
        self._device = device
        self._last = time.perf_counter()

    def __call__(self, name: str) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        now = time.perf_counter()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self._last
        self._last = now


def _loss_of(context: FitContext) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return something that needs as much memory as the loss does."""

    def learn(latents: torch.Tensor) -> torch.Tensor:
        images = context.model.decode(latents)
        outputs = [*context.judge.logits(images).values(), *(net(images) for net in context.features)]
        return torch.stack([output.sum() for output in outputs]).sum()

    return learn
