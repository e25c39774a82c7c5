"""Direct finetuning with the adjusted ("biased") gradient, the method of arXiv 2311.07604.

Images are sampled, judged, and told which class they should have had; that gradient is sent back into the
text encoder as if every denoising step depended on the prompt alone, and every step counts the same.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, ClassVar, Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

from fairbench.draws import Draw
from fairbench.errors import UserError
from fairbench.finetuning.adapters import text_encoder_lora
from fairbench.finetuning.batches import Batches
from fairbench.finetuning.engine import Training
from fairbench.finetuning.gains import path_gains, step_weights
from fairbench.finetuning.gradient import adjusted_gradient, exact_gradient, subsample
from fairbench.finetuning.objective import Objective
from fairbench.finetuning.semantics import OriginalPictures
from fairbench.intervention import DrawClass, FitContext, Intervention
from fairbench.models.hooks import Hooks
from fairbench.models.text_to_image import TextToImage
from fairbench.models.weights import lora_weights

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]


class BiasedDFT:
    """Finetune the text encoder until each prompt's images follow the target; what they show is kept."""

    name: ClassVar[str] = "biased_dft"
    draw_class: ClassVar[DrawClass] = "emergent"

    class Config(BaseModel):
        """Settings; the paper's where they carry over to a small model."""

        model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

        updates: PositiveInt = 130
        learning_rate: Positive = 2e-3
        """Of AdamW."""
        rank: PositiveInt = 32
        """Of the LoRA on the text encoder."""
        prompts_per_update: PositiveInt = 3
        images_per_prompt: Annotated[int, Field(ge=2)] = 8
        """Balanced together in one update."""
        noises_per_prompt: PositiveInt = 8
        """The bank of noise that a prompt's images are drawn from."""
        steps: PositiveInt | None = None
        """Denoising steps while training; two thirds of the model's own if None, about the paper's share."""
        guidance: Positive | None = None
        """Scale of classifier-free guidance while training; the model's own if None."""
        timesteps_per_update: PositiveInt | None = 4
        """How many random steps the gradient is taken at; None for all."""
        mode: Literal["standardised", "raw", "official", "exact"] | None = None
        """Weights of the steps; if None the default of the model: standardised unless it says otherwise."""
        confidence: Share = 0.8
        """An expected target below it is no target."""
        image_weight: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 8
        """Of keeping what the original picture shows."""
        change_factor: Share = 0.2
        """Share of that weight for a picture that is to change its class."""
        ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.996
        """Of the running average of the weights, which is what is exported."""
        clip: Positive = 10
        """The largest gradient norm that is let through unscaled."""

        @model_validator(mode="after")
        def _enough_noise(self) -> Self:
            if self.noises_per_prompt < self.images_per_prompt:
                raise ValueError("noises_per_prompt must not be smaller than images_per_prompt")
            return self

    def __init__(self, config: Config) -> None:
        self.config = config

    def check(self, model: TextToImage) -> None:
        """Raise a ``UserError`` where these settings do not fit the sampler of ``model``."""
        self._gains_and_weights(model.pipeline.scheduler, self._steps(model), self._mode(model))

    def fit(self, context: FitContext) -> Intervention:
        """Train a LoRA on the text encoder; an interrupted training of the same settings goes on."""
        config, model = self.config, context.model
        steps, mode = self._steps(model), self._mode(model)
        guidance = model.defaults.guidance if config.guidance is None else config.guidance
        gains, weights = self._gains_and_weights(model.pipeline.scheduler, steps, mode)
        sampled = context.description() | {"steps": steps, "guidance": guidance}
        settings = config.model_dump(mode="json", exclude={"updates"}) | sampled | {"mode": mode}
        batches = Batches(
            context, config.prompts_per_update, config.images_per_prompt, config.noises_per_prompt
        )

        with text_encoder_lora(model, config.rank, context.seed) as lora:

            def original(texts: list[str], seeds: list[int]) -> torch.Tensor:
                with lora.off():
                    return model.generate(texts, seeds, steps=steps, guidance=guidance, batch_size=len(seeds))

            originals = OriginalPictures(original, context, sampled)
            objective = Objective(
                context, originals, config.confidence, config.image_weight, config.change_factor
            )

            def accumulate(update: int) -> dict[str, float]:
                batch = batches[update]
                conditioning = model.encode(batch.texts)
                with torch.no_grad():
                    trajectory = model.rollout(
                        conditioning, batch.seeds, steps=steps, guidance=guidance, keep=True
                    )
                latents = trajectory.final.requires_grad_()
                loss, row = objective(model.decode(latents), batch)
                (cotangent,) = torch.autograd.grad(loss, latents)
                if mode == "exact":
                    exact_gradient(model, trajectory, conditioning, cotangent, gains, guidance=guidance)
                else:
                    some = subsample(weights, config.timesteps_per_update or len(weights), batch.generator)
                    adjusted_gradient(model, trajectory, conditioning, cotangent, some, guidance=guidance)
                return row

            training = Training(
                lora.parameters,
                context.directory,
                settings,
                learning_rate=config.learning_rate,
                ema_decay=config.ema_decay,
                clip=config.clip,
            )
            averaged = training.run(context.updates, accumulate, context.log, on_save=originals.save)
            tensors = lora.exported(averaged)
        return Intervention(self.name, self.draw_class, tensors, settings | {"updates": context.updates})

    @contextmanager
    def apply(self, intervention: Intervention, model: TextToImage, draw: Draw) -> Iterator[Hooks]:
        """Put the trained weights into the text encoder for as long as the context lasts."""
        with lora_weights(model, intervention.tensors):
            yield Hooks()

    def _steps(self, model: TextToImage) -> int:
        return self.config.steps or max(1, round(model.defaults.steps * 2 / 3))

    def _mode(self, model: TextToImage) -> str:
        return self.config.mode or model.defaults.step_weights

    def _gains_and_weights(self, scheduler: Any, steps: int, mode: str) -> tuple[torch.Tensor, torch.Tensor]:
        timesteps, gains = path_gains(scheduler, steps)
        if (self.config.timesteps_per_update or 0) > len(timesteps):
            raise UserError(
                f"timesteps_per_update is {self.config.timesteps_per_update}, but there are only "
                f"{len(timesteps)} denoising steps: give at most as many"
            )
        return gains, step_weights(timesteps, gains[-1], "raw" if mode == "exact" else mode, scheduler)
